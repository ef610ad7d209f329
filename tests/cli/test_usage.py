"""Wrong usage, help, secrets in arguments, the config's errors. No server is needed."""
import pathlib
import subprocess

import pytest

from sandbox.tool import program

COMMANDS = ("init", "check", "setup", "status", "lag", "cutover", "resume", "abort", "rollback", "detach", "report", "drivers")
TWO = "pairs:\n  - a: {url: 'fake://127.0.0.1:1'}\n    b: {url: 'fake://127.0.0.1:2'}\n"


def test_help_goes_to_standard_output(cli):
    for arguments in (("--help",), ("help",), ("-h",)):
        done = cli(*arguments)
        assert done.code == 0 and done.err == "", done
        assert done.out.startswith("Usage: changeover [-c FILE] [-p PAIR]... [--json] [-q|-v] COMMAND [OPTION]...\n")
        for code in (0, 1, 2, 3, 4, 5, 6, 64, 65, 70, 75, 130):
            assert f"\n  {code:3}  " in done.out
    for command in COMMANDS:
        done = cli("help", command)
        assert done.code == 0 and done.out == cli(command, "--help").out, done
        assert f" {command}\n" in done.out.splitlines()[0] + "\n"


def test_version(cli):
    done = cli("--version")
    assert (done.code, done.err) == (0, "")
    assert done.out.split()[0] == "changeover"


@pytest.mark.parametrize("arguments, message", [
    ((), "no command was given"),
    (("frobnicate",), "unknown command frobnicate"),
    (("statsu",), "unknown command statsu: did you mean status?"),
    (("verify",), "the command verify is not there yet"),
    (("serve",), "the command serve is not there yet"),
    (("lag", "--jso"), "unknown option --jso: did you mean --json?"),
    (("lag", "--wai=3"), "unknown option --wai: did you mean --wait?"),
    (("lag", "-x"), "unknown option -x"),
    (("lag", "--json=yes"), "--json takes no argument"),
    (("lag", "--timeout"), "--timeout needs an argument"),
    (("lag", "extra"), 'lag takes no argument, got "extra"'),
    (("cutover", "--strict"), "--strict is not an option of cutover"),
    (("status", "--yes"), "--yes is not an option of status"),
    (("lag", "--timeout", "soon"), '--timeout: expected a duration such as 500ms, 10s, 2m or 1h'),
    (("lag", "--format", "xml"), '--format: expected text, json, prometheus or nagios, got "xml"'),
    (("lag", "--wait", "--watch"), "--wait, --watch and --history exclude each other"),
    (("check", "--for", "lunch"), '--for: expected setup or cutover, got "lunch"'),
    (("-q", "-v", "status"), "-q and -v exclude each other"),
    (("cutover", "--max-write-pause", "0"), "more than 0"),
    (("help", "nothing"), "there is no command nothing"),
    (("init", "--a", "fake://h"), "init needs --a URL and --b URL"),
])
def test_wrong_usage_is_64_and_says_what(cli, arguments, message):
    cli.config(TWO)
    done = cli(*arguments)
    assert done.code == 64 and done.out == "", done
    assert done.err.startswith("changeover: ") and message in done.err, done
    done = cli("--json", *arguments)
    assert done.code == 64 and done.err == "", done
    assert done.json["exit_code"] == 64 and message in done.json["errors"][0]["message"], done
    assert done.json["errors"][0]["code"] == "usage"


@pytest.mark.parametrize("argument", ["postgresql://u:geheim-1@h/d", "redis://:geheim-1@h", "fake://h/?password=geheim-1",
                                      "--password=geheim-1", "fake://u:geh/eim-1@h"])
def test_a_password_in_an_argument_is_refused_and_not_repeated(cli, argument):
    for arguments in (("init", "--a", argument, "--b", "fake://b"), ("status", argument), ("-c", argument, "lag", "--json")):
        done = cli(*arguments)
        assert done.code == 64, done
        assert "holds a password" in done.out + done.err
        assert "eim-1" not in done.out + done.err


def test_config_errors_are_65_with_file_line_and_key(cli):
    path = cli.config(TWO + "    gate: {max_secs: 1}\n")
    done = cli("status")
    assert done.code == 65 and done.out == ""
    assert done.err.startswith(f"changeover: {path}:4: pairs[0].gate.max_secs: unknown key"), done
    cli.config(TWO + "    slto: x\n")
    done = cli("lag", "--json")
    assert done.code == 65 and done.json["errors"][0]["code"] == "config"
    assert ":4: pairs[0].slto: unknown key, expected slot" in done.json["errors"][0]["message"], done
    cli.config("pairs:\n  - engine: nosuch\n    a: {url: 'x://a'}\n    b: {url: 'x://b'}\n")
    done = cli("status")
    assert done.code == 65 and "nosuch" in done.err, done
    cli.config(TWO)
    done = cli("-p", "nobody", "status")
    assert done.code == 65 and "nobody" in done.err, done


def test_config_is_found_in_the_order_that_help_says(cli):
    done = cli("status")
    assert done.code == 65 and "changeover.yaml" in done.err and "changeover init" in done.err, done
    cli.config("migration: [\n", name="env.yaml")
    done = cli("status", env={"CHANGEOVER_CONFIG": "env.yaml"})
    assert "env.yaml:2: not valid YAML" in done.err, done
    done = cli("-c", "other.yaml", "status", env={"CHANGEOVER_CONFIG": "env.yaml"})
    assert "other.yaml" in done.err, done


def test_password_files_must_be_private(cli):
    cli.config("pairs:\n  - a: {url: 'fake://127.0.0.1:1', password_file: pw}\n    b: {url: 'fake://127.0.0.1:2'}\n", 0o644)
    (cli.folder / "pw").write_text("geheim-2\n")
    (cli.folder / "pw").chmod(0o640)
    done = cli("status")
    assert done.code == 65 and "mode 0640" in done.err and "chmod 600" in done.err, done
    assert "geheim-2" not in done.err
    cli.config("pairs:\n  - a: {url: 'fake://u:geheim-3@127.0.0.1:1'}\n    b: {url: 'fake://127.0.0.1:2'}\n", 0o640)
    done = cli("status", "--json")
    assert done.code == 65 and "geheim-3" not in done.out + done.err, done
    assert "the URL holds a password" in done.json["errors"][0]["message"]


@pytest.mark.parametrize("key, files", [("ca", "ca: nowhere.pem"), ("cert", "cert: nowhere.pem, key: changeover.yaml"),
                                        ("key", "cert: changeover.yaml, key: nowhere.pem")])
def test_a_file_for_tls_that_is_not_there_is_a_config_error_that_names_it(cli, key, files):
    cli.config(f"pairs:\n  - a: {{url: 'fake://127.0.0.1:1', tls: {{{files}}}}}\n    b: {{url: 'fake://127.0.0.1:2'}}\n")
    done = cli("lag")
    assert done.code == 65 and f"pairs[0].a.tls.{key}: cannot read {cli.folder}/nowhere.pem" in done.err, done


def test_init_writes_once_and_what_it_writes_loads(cli):
    done = cli("init", "--a", "fake://127.0.0.1:1", "--b", "fake://127.0.0.1:2", "--name", "shop")
    assert done.code == 0 and done.err == "", done
    text = (cli.folder / "changeover.yaml").read_text()
    assert "migration: shop\n" in text and 'url: "fake://127.0.0.1:1"' in text
    done = cli("status", "--json")
    assert done.code == 3 and done.json["migration"] == "shop", done  # it loads; nobody answers
    done = cli("init", "--a", "fake://127.0.0.1:1", "--b", "fake://127.0.0.1:2")
    assert done.code == 1 and "File exists" in done.err, done
    assert (cli.folder / "changeover.yaml").read_text() == text
    for arguments in (("--a", "nosuch://x", "--b", "nosuch://y"), ("--a", "fake://x", "--b", "fake://x"),
                      ("--a", "fake://x", "--b", "fake://y", "--name", "a b"), ("--a", "fake://x", "--b", "fake://y", "--engine", "oracle")):
        done = cli("init", "-c", "new.yaml", *arguments)
        assert done.code == 64 and not (cli.folder / "new.yaml").exists(), done


def test_init_names_the_migration_after_its_file_or_its_folder(cli):
    """Two folders with a changeover.yaml each would otherwise share one default journal."""
    for folder in ("shop", "-orders db"):
        (cli.folder / folder).mkdir()
    for path, name in (("stock.yaml", "stock"), ("shop/changeover.yaml", "shop"), ("./-orders db/changeover.yaml", "_orders_db")):
        done = cli("init", "-c", path, "--a", "fake://127.0.0.1:1", "--b", "fake://127.0.0.1:2")
        assert done.code == 0, done
        assert f"migration: {name}\n" in (cli.folder / path).read_text()


def test_init_prints_for_every_engine_the_statements_that_make_its_accounts(cli):
    """Hints and pages send people there. The files with the passwords may not be there yet."""
    for engine in [engine["name"] for driver in cli("drivers", "--json").json["drivers"] for engine in driver["engines"]]:
        config = cli.config(f"pairs: [{{engine: {engine}, a: {{url: '{engine}://mover@127.0.0.1:1', password_file: later}},\n"
                            f"  b: {{url: '{engine}://mover@127.0.0.1:2'}}, replication: {{user: copier, password_file: later}}}}]\n", name="grants.yaml")
        done = cli("-c", config, "init", "--grants")
        assert done.code == 0 and done.err == "" and done.out.startswith(f"{engine}, sides a and b:\n"), done
        assert engine.startswith("fake") or "mover" in done.out, done
        grants = cli("-c", config, "--json", "init", "--grants").json["grants"]
        assert [(one["pair"], one["side"]) for one in grants] == [(engine, None)] and grants[0]["statements"] in done.out, grants
    done = cli("-c", config, "init", "--grants", "--a", "fake://127.0.0.1:1")
    assert done.code == 64 and "--a doesn't go with it" in done.err, done
    assert cli("-c", "nowhere.yaml", "init", "--grants").code == 65


def test_no_client_library_leaves_or_meets_anything_in_shared_memory(cli):
    """One kept a file there under the process's id: of a process that was killed it stayed, and the next one of that id warned."""
    script = f'touch /dev/shm/mongoc-$$; echo $$; exec {program()} drivers'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env=cli.env)
    left = pathlib.Path(f"/dev/shm/mongoc-{done.stdout.split()[0]}")
    left.unlink()
    assert done.stderr == "", done


def test_two_urls_are_enough_with_any_scheme_of_an_engine(cli):
    drivers = cli("drivers", "--json").json["drivers"]
    for engine in [engine for driver in drivers for engine in driver["engines"]]:
        for scheme in engine["schemes"].split("|"):
            urls = ("unix:///a/x", "unix:///b/x") if scheme == "unix" else (f"{scheme}://127.0.0.1:1", f"{scheme}://127.0.0.1:2")
            cli.config(f"pairs: [{{a: {{url: '{urls[0]}'}}, b: {{url: '{urls[1]}'}}}}]\n")
            done = cli("report", "--json")
            assert done.code == 1, done  # no journal: the config was taken
            done = cli("init", "-c", f"{engine['name']}-{scheme}.yaml".replace("+", "-"), "--a", urls[0], "--b", urls[1])
            assert done.code == 0, done


def test_without_a_terminal_runs_need_yes(cli):
    cli.config(TWO)
    for command in ("cutover", "rollback"):
        done = cli(command)
        assert done.code == 64 and "needs --yes" in done.err, done


def test_drivers_are_listed(cli):
    done = cli("drivers", "--json")
    assert done.code == 0, done
    fake = [one for one in done.json["drivers"] if one["name"] == "fake"][0]
    assert fake["abi"] == 1 and "fake" in [engine["name"] for engine in fake["engines"]]
    assert fake["version"] and fake["path"].endswith("changeover-fake.so")
    (cli.folder / "d").mkdir()
    (cli.folder / "d" / "changeover-bad.so").write_text("not a module")
    done = cli("drivers", env={"CHANGEOVER_DRIVERS": str(cli.folder / "d")})
    assert "refused: " in done.out and done.code == 1, done


def test_output_errors_end_nothing_and_are_said(cli):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = cli("drivers", stdout=full)
    assert done.code == 0 and "cannot write to standard output" in done.err, done
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    done = cli("--help", stdout=reader.stdin)  # a broken pipe
    reader.stdin.close()
    assert done.code == 0 and done.err == "", done


def test_misspelt_fault_points_are_refused(cli):
    cli.config(TWO)
    done = cli("cutover", "--yes", env={"CHANGEOVER_FAULT": "fense:begin=kill"})
    assert done.code == 64 and "fense:begin" in done.err, done
    done = cli("cutover", "--yes", env={"CHANGEOVER_FAULT": "fence:begin"})
    assert done.code == 64, done


def test_fault_points_and_reference_print(cli):
    points = cli("fault-points").out.split()
    assert "fence:begin" in points and "journal.commit:before" in points
    assert "| `gate.max_seconds` |" in cli("config-reference").out
    assert "Keys of the driver fake" in cli("config-reference", "fake").out
