/* sample.c - names and ends of lag samples. */
#include "lag/lag.h"

const char *co_gate_name(enum co_gate_state state)
{
    switch (state) {
    case CO_GATE_OPEN:
        return "open";
    case CO_GATE_CLOSED:
        return "closed";
    case CO_GATE_BROKEN:
        return "broken";
    case CO_GATE_UNKNOWN:
        break;
    }
    return "unknown";
}

enum co_gate_state co_gate_worst(enum co_gate_state a, enum co_gate_state b)
{
    return a > b ? a : b;
}

void co_lag_sample_done(struct co_lag_sample *sample)
{
    if (!sample)
        return;
    co_text_done(&sample->reason);
    co_text_done(&sample->faster);
    co_text_done(&sample->primary_position);
    co_text_done(&sample->applied_position);
}
