/* names.c - the names of phases, sides and results as output, journal and fault points spell them. They are
 * part of the JSON schemas: never changed, only added to. */
#include "drivers-host/pair.h"

const char *co_phase_name(enum co_phase phase)
{
    switch (phase) {
    case CO_PHASE_LOCK:
        return "lock";
    case CO_PHASE_CHECK:
        return "check";
    case CO_PHASE_GATE:
        return "gate";
    case CO_PHASE_WARM_UP:
        return "warm_up";
    case CO_PHASE_FENCE:
        return "fence";
    case CO_PHASE_DRAIN:
        return "drain";
    case CO_PHASE_CAPTURE:
        return "capture";
    case CO_PHASE_CATCH_UP:
        return "catch_up";
    case CO_PHASE_PROVE:
        return "prove";
    case CO_PHASE_REVERSE_PREPARE:
        return "reverse_prepare";
    case CO_PHASE_PROMOTE:
        return "promote";
    case CO_PHASE_COMMIT:
        return "commit";
    case CO_PHASE_OPEN:
        return "open";
    case CO_PHASE_SWITCH:
        return "switch";
    case CO_PHASE_CONFIRM:
        return "confirm";
    case CO_PHASE_REVERSE:
        return "reverse";
    case CO_PHASE_SETUP:
        return "setup";
    case CO_PHASE_DETACH:
        return "detach";
    case CO_PHASE_UNDO:
        return "undo";
    }
    return "unknown";
}

enum co_side co_side_other(enum co_side side)
{
    return side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A;
}

const char *co_side_name(enum co_side side)
{
    switch (side) {
    case CO_SIDE_A:
        return "a";
    case CO_SIDE_B:
        return "b";
    case CO_SIDE_LOCAL:
        return "local";
    }
    return "unknown";
}

const char *co_result_name(enum co_result result)
{
    switch (result) {
    case CO_DONE:
        return "done";
    case CO_AGAIN:
        return "again";
    case CO_NO_EFFECT:
        return "no_effect";
    case CO_EFFECT_UNKNOWN:
        return "effect_unknown";
    }
    return "unknown";
}
