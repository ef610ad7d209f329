/* fault.h - registered fault points, for tests and rehearsals.
 *
 * CHANGEOVER_FAULT="point=action[,point=action...]" (and CHANGEOVER_GUARDIAN_FAULT for the guardian process).
 * A point may end in "#N": only its Nth passing. Actions:
 *   kill          SIGKILL to this process
 *   kill_both     SIGKILL to this process and its guardian (or tool)
 *   stop          SIGSTOP to this process
 *   error         the call isn't made and answers CO_NO_EFFECT
 *   lost          the call is made, its reply is thrown away: CO_EFFECT_UNKNOWN, connection broken
 *   late          CO_EFFECT_UNKNOWN at once; the call is made half a second later on its own thread
 *   delay:MS      waits first
 *   hold          waits until the file "$CHANGEOVER_FAULT_MET.go" is there, at most 30 s
 * Each fault that is met adds a line "PID POINT#PASSING" to the file $CHANGEOVER_FAULT_MET, before it acts.
 * Points are "<phase>:<what>": "fence:begin", "fence:end" around every phase of the table,
 * "<step name>:before|after|probe|revert" for every step, "<primitive>.<source|target>:before|after" for
 * every other primitive, "journal.<what>:before|after" for decisions, "guardian.kill"
 * where the guardian kills a tool (error: it can't). co_fault_list prints them all.
 * With the variable unset a point costs one branch.
 */
#ifndef CO_BASE_FAULT_H
#define CO_BASE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum co_fault_action { CO_FAULT_NONE = 0, CO_FAULT_ERROR, CO_FAULT_LOST, CO_FAULT_LATE };

extern bool co_fault_armed; /* read-only outside fault.c */

/* Parses the variable; refuses a malformed one (the points' existence is checked by the caller that knows
 * the drivers). role: "tool" or "guardian". */
int co_fault_setup(const char *variable, struct co_error *err);
void co_fault_set_partner(int pid); /* for kill_both */
/* Kill, stop and delay happen inside; the rest is returned for the caller to act on. */
enum co_fault_action co_fault_hit(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define CO_FAULT(...) (co_fault_armed ? co_fault_hit(__VA_ARGS__) : CO_FAULT_NONE)
/* Calls fn for each configured "point" so that unknown ones can be refused. */
void co_fault_each(void (*fn)(const char *point, void *arg), void *arg);

#endif
