/*
 * queue: a drain queue: one inbox that many sessions and turns deliver into.
 */
#ifndef TR__DOMAIN_QUEUE_H
#define TR__DOMAIN_QUEUE_H

#include <toolring/types.h>

#include "base/atomic.h"
#include "parts/inbox.h"

struct tr_queue {
    TR__CACHE_ALIGNED struct tr__inbox inbox;
    tr__atomic_u32
        bound; /* sessions and turns whose slot delivers here; writers: under lanes' locks */
    tr_manager *manager;
    struct tr_queue *next; /* the manager's list, under its lock */
    struct tr_queue **link;
};

#endif
