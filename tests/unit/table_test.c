/* table_test.c - the invariants of the cutover's table: at most one writer in every state, one commit point, and
 * a way out of every phase.
 */
#include "unit.h"

#include "cutover/table.h"

static bool writes(enum co_side_state state)
{
    return state == CO_OPEN;
}

static void check_table(bool after_switch)
{
    size_t count = 0, commits = 0, begins = 0, ends = 0;
    const struct co_phase_def *table = co_table(after_switch, &count);
    bool decided = false, paused = false;
    assert_true(count > 0 && count <= CO_MAX_PHASES);
    for (size_t i = 0; i < count; i++) {
        const struct co_phase_def *def = &table[i];
        assert_non_null(def->action);
        assert_non_null(def->title);
        assert_string_not_equal(co_phase_name(def->phase), "");
        /* never two writers */
        assert_false(writes(def->source_after) && writes(def->target_after));
        /* a refusal is possible only while the source serves, an undo only before the decision */
        if (def->on_failure == CO_FAIL_REFUSE)
            assert_true(writes(def->source_after) && !paused);
        if (def->on_failure == CO_FAIL_UNDO)
            assert_false(decided);
        if (def->on_failure == CO_FAIL_FORWARD || def->on_failure == CO_FAIL_FOLLOW_UP)
            assert_true(decided);
        /* the target opens only after the decision, and then the source never does again */
        if (writes(def->target_after))
            assert_true(decided);
        if (paused)
            assert_false(writes(def->source_after));
        for (size_t k = 0; k < i; k++)
            assert_int_not_equal(table[k].phase, def->phase);
        commits += (def->flags & CO_PHASE_COMMIT_POINT) != 0;
        begins += (def->flags & CO_PHASE_PAUSE_BEGINS) != 0;
        ends += (def->flags & CO_PHASE_PAUSE_ENDS) != 0;
        decided = decided || (def->flags & CO_PHASE_COMMIT_POINT);
        paused = paused || (def->flags & CO_PHASE_PAUSE_BEGINS);
    }
    assert_int_equal(commits, 1);
    assert_int_equal(begins, 1);
    assert_int_equal(ends, 1);
    assert_true(writes(table[count - 1].target_after));
}

static void test_before_switch(void **state)
{
    (void)state;
    check_table(false);
}

static void test_after_switch(void **state)
{
    (void)state;
    check_table(true);
}

static void test_same_phases(void **state)
{
    (void)state;
    size_t one_count, other_count;
    const struct co_phase_def *one = co_table(false, &one_count), *other = co_table(true, &other_count);
    assert_int_equal(one_count, other_count);
    for (size_t i = 0; i < one_count; i++) {
        size_t k = 0;
        while (k < other_count && other[k].phase != one[i].phase)
            k++;
        assert_true(k < other_count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_before_switch), cmocka_unit_test(test_after_switch),
                                       cmocka_unit_test(test_same_phases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
