/*
 * output.h: keeps the beginning and the end of a stream within a cap, and counts what it omits.
 */
#ifndef TR__TOOLS_OUTPUT_H
#define TR__TOOLS_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

#include <toolring/process.h>

/* Memory taken at the first byte (less if the cap is less): most commands print less. */
#define TR__OUTPUT_START_BYTES 4096u

struct tr__output {
    unsigned char *data; /* `capacity` bytes; NULL before the first byte */
    size_t capacity;     /* never more than bytes_max */
    size_t bytes_max;    /* the cap */
    size_t used;         /* bytes in `data` */
    size_t head;         /* once it wraps: where the ring of the last bytes begins in `data` */
    size_t next;         /* once it wraps: where the next byte goes, the oldest of the ring's */
    uint64_t total;      /* bytes added */
};

/* Caller's memory. `bytes_max` from 1. Takes no memory yet. */
void tr__output_init(struct tr__output *output, size_t bytes_max);

/* Adds bytes; cannot fail. Where memory is refused the cap becomes what there is already. */
void tr__output_add(struct tr__output *output, const void *data, size_t size);

/*
 * Puts what was kept in order, cuts at UTF-8 boundaries where bytes are missing, and hands it over:
 * ret_output->data is to be given back with tr__memory_give. The output is empty afterwards.
 */
void tr__output_finish(struct tr__output *output, tr_process_output *ret_output);

/* Gives the memory back without a result. */
void tr__output_done(struct tr__output *output);

#endif
