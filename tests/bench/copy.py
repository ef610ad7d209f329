#!/usr/bin/python3
"""How long `setup` takes for a table of a million rows, beside the plain pipe of the same data in the same run.

    tests/bench/copy.py [--engine mariadb|mysql] [--rows N] [--runs N] [--json FILE]

The pipe is what a person would type: `mariadb-dump | mariadb` (mysqldump | mysql), one snapshot, with its position, into an empty
server and past its binary log, as setup does. The two take turns, each into a fresh server, and what each brought is counted.
Nothing is asserted here.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from sandbox.box import Sandbox  # noqa: E402
from sandbox.engines import engine_reason, server_class  # noqa: E402


def fill(server, rows):
    connection = server.connect("root", database="app", timeout_s=600)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE big (id int PRIMARY KEY AUTO_INCREMENT, customer int, at timestamp, what varchar(60), amount decimal(10,2), "
                       "KEY (at)) ENGINE=InnoDB")
        cursor.execute("CREATE TABLE digits (d int)")
        cursor.execute("INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)")
        step = 100000
        for begin in range(0, rows, step):
            cursor.execute("INSERT INTO big (customer, at, what, amount) SELECT FLOOR(RAND() * 50000), NOW(), "
                           "CONCAT(UUID(), ' order'), RAND() * 1000 FROM digits a, digits b, digits c, digits d, digits e LIMIT %s",
                           (min(step, rows - begin),))
    connection.close()


def count(server):
    return server.query("SELECT COUNT(*) FROM app.big")[0][0]


def plain(box, a, b, mysql, user, password):
    options = box.folder / "plain.cnf"
    options.write_text(f"[client]\nuser={user}\npassword={password}\nhost=127.0.0.1\nprotocol=tcp\n")
    options.chmod(0o600)
    dump, load = a.program("mysqldump" if mysql else "mariadb-dump"), a.program("mysql" if mysql else "mariadb")
    position = "--set-gtid-purged=ON" if mysql else "--master-data=1 --gtid"
    b.query("RESET BINARY LOGS AND GTIDS" if mysql else "RESET MASTER")
    begin = time.monotonic()
    subprocess.run(f"{dump} --defaults-file={options} -P {a.port} --single-transaction --quick --routines --triggers --events {position} "
                   f"--databases app | {load} --defaults-file={options} -P {b.port} --init-command='SET sql_log_bin=0'", shell=True, check=True)
    return time.monotonic() - begin


def spread(values):
    return f"{min(values):6.2f} / {statistics.median(values):6.2f} / {max(values):6.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="mariadb")
    parser.add_argument("--rows", type=int, default=1000000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    reason = engine_reason(options.engine)
    if reason:
        print(f"not measured: {reason}")
        return 3
    from sandbox import mariadb

    made, mysql = server_class(options.engine), options.engine.startswith("mysql")
    took = {"setup": [], "plain pipe": []}
    with Sandbox("bench-copy") as box:
        pair = box.pair(options.engine)
        fill(pair.a, options.rows)
        for number in range(options.runs):
            for who in ("plain pipe", "setup"):
                target = box.pair(options.engine, name=f"{who[0]}{number}").b  # a pair, for its fresh and empty B
                pair.b = target
                if who == "setup":
                    tool = box.tool([pair], name=f"t{number}")
                    begin = time.monotonic()
                    done = tool("setup", timeout_s=1200)
                    took[who].append(time.monotonic() - begin)
                    if done.code:
                        raise RuntimeError(f"setup: {done}")
                else:
                    took[who].append(plain(box, pair.a, target, mysql, mariadb.TOOL, mariadb.PASSWORD))
                if count(target) != options.rows:
                    raise RuntimeError(f"{who}: {count(target)} rows of {options.rows}")
                print(f"  {who:10} {took[who][-1]:6.2f} s", flush=True)
                target.end()
    print(f"\n{options.engine} ({made.__name__}): {options.rows} rows, seconds as minimum / median / maximum of {options.runs}")
    for who, values in took.items():
        print(f"  {who:10} {spread(values)}   {options.rows / statistics.median(values):9.0f} rows/s")
    print(f"  setup takes {statistics.median(took['setup']) / statistics.median(took['plain pipe']):.2f} times as long")
    if options.json:
        options.json.write_text(json.dumps(took, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
