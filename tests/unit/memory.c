/* Memory: every kind of request, its failure, and lazy reservations. */
#include "base/memory.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/atomic.h"
#include "support/case.h"

static void *request(int kind)
{
    switch (kind) {
    case 0:
        return tr__memory_take(10);
    case 1:
        return tr__memory_take_zero(10);
    case 2:
        return tr__memory_take_aligned(64, 10);
    default:
        return tr__memory_resize(NULL, 10);
    }
}

enum {
    KINDS = 4
};

static void align_to_three(void *context)
{
    (void)context;
    (void)tr__memory_take_aligned(24, 10);
}

CASE(memory, blocks_are_writable_to_the_last_byte)
{
    for (size_t size = 1; size <= 1 << 20; size = size * 3 + 1) {
        unsigned char *block = tr__memory_take(size);
        CHECK(block != NULL);
        CHECK(size < 16 || (uintptr_t)block % _Alignof(max_align_t) == 0);
        memset(block, 0xa5, size);
        tr__memory_give(block);
    }
}

CASE(memory, zeroed_blocks_are_zero_even_when_reused)
{
    for (int round = 0; round < 100; round++) {
        unsigned char *block = tr__memory_take_zero(300);
        CHECK(block != NULL);
        for (int i = 0; i < 300; i++) {
            CHECK_EQ_INT(block[i], 0);
        }
        memset(block, 0xff, 300);
        tr__memory_give(block);
    }
}

CASE(memory, aligned_blocks_are_aligned)
{
    for (size_t align = sizeof(void *); align <= 4096; align *= 2) {
        void *block = tr__memory_take_aligned(align, 100);
        CHECK(block != NULL);
        CHECK_EQ_U64((uintptr_t)block % align, 0);
        memset(block, 1, 100);
        tr__memory_give(block);
    }
    CHECK(case_panics(align_to_three, NULL));
}

CASE(memory, size_zero_is_a_block_too)
{
    void *one = tr__memory_take(0);
    void *two = tr__memory_take_zero(0);
    CHECK(one != NULL && two != NULL && one != two);
    one = tr__memory_resize(one, 0);
    CHECK(one != NULL);
    tr__memory_give(one);
    tr__memory_give(two);
    tr__memory_give(NULL);
}

CASE(memory, resize_keeps_the_contents)
{
    unsigned char *block = tr__memory_resize(NULL, 1);
    CHECK(block != NULL);
    block[0] = 0;
    for (size_t size = 2; size <= 5000; size++) {
        block = tr__memory_resize(block, size);
        CHECK(block != NULL);
        block[size - 1] = (unsigned char)(size - 1);
    }
    block = tr__memory_resize(block, 256);
    CHECK(block != NULL);
    for (unsigned i = 0; i < 256; i++) {
        CHECK_EQ_INT(block[i], i);
    }
    tr__memory_give(block);
}

CASE(memory, the_nth_request_fails_once)
{
    for (int kind = 0; kind < KINDS; kind++) {
        for (long n = 1; n <= 5; n++) {
            tr__memory_fail_after(n);
            for (long i = 1; i <= 7; i++) {
                void *block = request(kind);
                CHECK((block == NULL) == (i == n));
                tr__memory_give(block);
            }
            CHECK_EQ_INT(tr__memory_fail_left(), 0);
        }
    }
}

CASE(memory, the_failure_hook_can_be_switched_off)
{
    tr__memory_fail_after(3);
    CHECK_EQ_INT(tr__memory_fail_left(), 3);
    tr__memory_give(request(0));
    CHECK_EQ_INT(tr__memory_fail_left(), 2);
    tr__memory_fail_after(-1);
    CHECK_EQ_INT(tr__memory_fail_left(), 0);
    for (int i = 0; i < 5; i++) {
        void *block = request(i % KINDS);
        CHECK(block != NULL);
        tr__memory_give(block);
    }
    tr__memory_fail_after(0);
    CHECK(request(0) == NULL);
}

CASE(memory, a_failed_resize_leaves_the_block)
{
    char *block = tr__memory_take(16);
    CHECK(block != NULL);
    strcpy(block, "still here");
    tr__memory_fail_after(1);
    CHECK(tr__memory_resize(block, 1 << 20) == NULL);
    CHECK_EQ_STR(block, "still here");
    tr__memory_give(block);
}

CASE(memory, a_reservation_can_fail)
{
    tr__memory_fail_after(1);
    CHECK(tr__memory_reserve(4096) == NULL);
    CHECK(tr__memory_reserve(SIZE_MAX / 4) == NULL); /* more than the address space */
    tr__memory_unreserve(NULL, 4096);
}

CASE(memory, a_guard_is_told_from_a_page)
{
    size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = tr__memory_reserve(2 * bytes);
    CHECK(pages != NULL);
    CHECK_EQ_INT(mprotect(pages, bytes, PROT_NONE), 0);
    errno = ENOTTY;
    CHECK(!tr__memory_is_readable(pages));
    CHECK(tr__memory_is_readable(pages + bytes));
    CHECK_EQ_INT(errno, ENOTTY);
    tr__memory_unreserve(pages, 2 * bytes);
}

static size_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    CHECK(file != NULL);
    unsigned long total = 0;
    unsigned long resident = 0;
    CHECK_EQ_INT(fscanf(file, "%lu %lu", &total, &resident), 2);
    (void)fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

CASE(memory, a_reservation_costs_only_what_is_touched)
{
    const size_t bytes = (size_t)1 << 30;
    size_t before = resident_bytes();
    unsigned char *memory = tr__memory_reserve(bytes);
    CHECK(memory != NULL);
    CHECK_EQ_U64((uintptr_t)memory % TR_CACHE_LINE, 0);
    for (size_t at = 0; at < bytes; at += bytes / 4) {
        CHECK_EQ_INT(memory[at], 0);
        memory[at] = 1;
    }
    memory[bytes - 1] = 1;
    /* Five pages; huge pages and a sanitizer's shadow may make 2 MiB of each. */
    CHECK(resident_bytes() < before + (32u << 20));
    tr__memory_unreserve(memory, bytes);
}

CASE(memory, an_odd_sized_reservation_is_given_back_whole)
{
    for (size_t bytes = 1; bytes < 20000; bytes += 4095) {
        unsigned char *memory = tr__memory_reserve(bytes);
        CHECK(memory != NULL);
        memset(memory, 1, bytes);
        tr__memory_unreserve(memory, bytes);
    }
}
