"""What the label ci takes of a suite that is longer than its time: a spread, chosen by the printed seed."""
import os
import random


def sample(config, items, group_of, size_of):
    """With the label ci: of each group as many tests as size_of(group) says, chosen by the seed. A test whose group is
    None always runs. With an expression of their own (-k) people get what they ask for."""
    if config.option.markexpr != "ci" or config.option.keyword:
        return
    chooser = random.Random(os.environ.get("CO_SEED", "1"))
    groups, kept = {}, set()
    for item in items:
        group = group_of(item)
        if group is None:
            kept.add(item)
        elif item.get_closest_marker("ci"):
            groups.setdefault(group, []).append(item)
    for group, members in sorted(groups.items()):
        kept.update(chooser.sample(members, min(len(members), size_of(group))))
    drop(config, items, [item for item in items if item not in kept])


def drop(config, items, dropped):
    dropped = set(dropped)
    config.hook.pytest_deselected(items=list(dropped))
    items[:] = [item for item in items if item not in dropped]
