/* Error codes: names, messages, and what happens with codes nobody listed. */
#include <toolring/error.h>
#include <toolring/version.h>

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "support/case.h"

struct listed {
    int value;
    const char *name;
    const char *message;
};

static const struct listed listed[] = {
#define LISTED(name_, value_, message_) {value_, #name_, message_},
    TR_ERROR_LIST(LISTED)
#undef LISTED
};

enum {
    LISTED_COUNT = sizeof listed / sizeof listed[0]
};

CASE(error, every_code_has_its_name_and_message)
{
    for (int i = 0; i < LISTED_COUNT; i++) {
        CHECK_EQ_STR(tr_error_name(listed[i].value), listed[i].name);
        CHECK_EQ_STR(tr_error_message(listed[i].value), listed[i].message);
    }
}

CASE(error, messages_are_one_line_without_full_stop)
{
    for (int i = 0; i < LISTED_COUNT; i++) {
        size_t length = strlen(listed[i].message);
        CHECK(length > 0 && length <= 80);
        CHECK(strchr(listed[i].message, '\n') == NULL);
        CHECK(listed[i].message[length - 1] != '.');
    }
}

CASE(error, values_are_negative_and_different)
{
    for (int i = 0; i < LISTED_COUNT; i++) {
        CHECK(listed[i].value < 0);
        for (int j = 0; j < i; j++) {
            CHECK(listed[i].value != listed[j].value);
        }
    }
}

CASE(error, zero_is_success)
{
    CHECK_EQ_STR(tr_error_name(0), "TR_OK");
    CHECK_EQ_STR(tr_error_message(0), "success");
}

CASE(error, system_errors_pass_through)
{
    CHECK_EQ_STR(tr_error_name(-EXDEV), "EXDEV");
    CHECK_EQ_STR(tr_error_message(-EXDEV), "Invalid cross-device link");
    CHECK_EQ_STR(tr_error_name(-EBADF), "EBADF");
    CHECK_EQ_STR(tr_error_name(-EINVAL), "TR_EINVAL");
}

CASE(error, anything_else_is_unknown)
{
    const int unknown[] = {1, 22, INT_MAX, INT_MIN, -41, -4095, -4096, -4103, -100000};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        CHECK_EQ_STR(tr_error_name(unknown[i]), "TR_UNKNOWN");
        CHECK_EQ_STR(tr_error_message(unknown[i]), "unknown error");
    }
}

CASE(error, version_matches_the_header)
{
    CHECK_EQ_STR(tr_version(), TR_VERSION_STRING);
    CHECK_EQ_STR(tr_version(), "0.1.0");
}
