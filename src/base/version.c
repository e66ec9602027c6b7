/* Version: the number compiled into the library. Owner: none; any thread; constant. */
#include <toolring/version.h>

#include "base/assert.h"

#define TR__TEXT_OF(x) #x
#define TR__TEXT(x) TR__TEXT_OF(x)

static const char from_numbers[] =
    TR__TEXT(TR_VERSION_MAJOR) "." TR__TEXT(TR_VERSION_MINOR) "." TR__TEXT(TR_VERSION_PATCH);
TR_STATIC(sizeof from_numbers == sizeof TR_VERSION_STRING, "the text has as many digits");

const char *tr_version(void)
{
    return from_numbers;
}
