/* check.c - pre-flight: stub until the next slice. */
#include "my.h"

enum co_result my_check(struct co_call *call, enum co_check_stage stage)
{
    (void)call;
    (void)stage;
    return CO_DONE;
}

enum co_result my_digest(struct co_call *call, const char *range, struct co_text *ret)
{
    (void)range;
    (void)ret;
    return my_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "", "digests aren't there yet");
}
