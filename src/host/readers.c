/*
 * readers.c: opening event readers: the host's way to the event log. The rest of them is in
 * completion/reader.c, which knows no manager.
 *
 * Owner thread: any host thread. Called by hosts; calls completion/events.
 */
#include "host/manager.h"

int tr_reader_open(tr_manager *manager, const tr_reader_options *options, tr_reader **ret_reader)
{
    if (manager == NULL || ret_reader == NULL) {
        return TR_EINVAL;
    }
    return tr__reader_open(&manager->completion->events, options, ret_reader);
}
