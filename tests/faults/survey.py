"""Which fault points a run passes, and how often, for each way it can take: seen by running it once with a fault at every
point that does nothing but say that it was met."""
import json
import pathlib

from matrix import WAYS
from sandbox.tool import fault_points


def armed(points, but=()):
    return ",".join(f"{point}=delay:0" for point in points if point not in but)


FOLDER = pathlib.Path(__file__).resolve().parent / "surveys"


def stored_path(engine):
    return FOLDER / f"{engine}.json"


def store(engine, found):
    """For the sample of every CI run, which has no time to look for itself."""
    FOLDER.mkdir(exist_ok=True)
    lines = [f" {json.dumps(way)}: {{\n" + ",\n".join(f"  {json.dumps(point)}: {json.dumps(list(seen))}" for point, seen in points.items()) +
             "\n }" for way, points in found.items()]
    stored_path(engine).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def stored(engine):
    return json.loads(stored_path(engine).read_text(encoding="utf-8"))


def read_met(path):
    """[(pid, point, which passing)] in the order in which they were met"""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        pid, passed = line.split(" ", 1)
        point, passing = passed.rsplit("#", 1)
        found.append((int(pid), point, int(passing)))
    return found


def survey(scene):
    """{way: {point: (first passing, last passing)}}; the scene is left with the side in service that it had."""
    points = [point for point in fault_points(scene.tool.config_path) if point != "guardian.kill"]
    found = {way: {} for way in WAYS}
    for kind in ("cutover", "rollback"):
        for way in ("undo", "guardian", "resume", "tool"):
            see(scene, kind, way, points, found[way])
    for way in ("guardian_forward", "resume_forward"):
        for kind in ("cutover", "rollback"):
            see(scene, kind, way, points, found[way])
    return {way: dict(sorted(seen.items())) for way, seen in found.items()}


def see(scene, kind, way, points, found):
    before, who = WAYS[way]
    turn = before.split("=")[0] if before else None
    path = scene.box.folder / "survey.met"
    path.unlink(missing_ok=True)
    met = {"CHANGEOVER_FAULT_MET": str(path)}
    everywhere = armed(points)
    fault = {None: everywhere, "tool": f"{before},{armed(points, but=[turn])}"}.get(who, before)
    result = scene.tool("lag", "--wait=30s", timeout_s=60)
    assert result.code == 0, result
    child = scene.tool.spawn(kind, "--yes", "--when-ready=15s", fault=fault, env=met,
                             guardian_fault=everywhere if who == "guardian" else None)
    result = scene.tool.finish(child, 90)
    assert result.code in (0, 4, -9), result
    scene.tool.wait_quiet(60)
    result = scene.tool("resume", "--if-needed", fault=everywhere if who == "resume" else None, env=met, timeout_s=120)
    assert result.code in (0, 4), result
    turned = turn is None
    for pid, point, passing in read_met(path):
        if turned and (pid != child.pid or who in (None, "tool")):
            first, last = found.get(point, (passing, passing))
            found[point] = (min(first, passing), max(last, passing))
        turned = turned or point == turn
    scene.open_side()
    if scene.tool("lag", "--wait=5s", timeout_s=60).code != 0:
        again = scene.tool("setup", timeout_s=180)  # an undone promotion may cost the target its copy
        assert again.code == 0, again
