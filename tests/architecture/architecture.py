"""The rules about the shape of the code that a compiler doesn't check.

    architecture.py --check ROOT       names every breach as FILE:LINE: what; exit 1 when there is one
    architecture.py --self-test ROOT   sees that each rule finds what it is for

Folders of src/ are layers: a file includes from its own folder, from those of its group that don't include it
back, and from groups below. Drivers see one header of the core.
"""
import re
import subprocess
import sys
from pathlib import Path

LAYERS = [
    {"base"},
    {"config", "journal", "drivers-host"},
    {"lag", "cutover", "verify", "report"},
    {"serve", "cli"},
    {"main"},
]

# What a driver sees of the core: the contract, and strings that need nothing but libc.
INSTALLED = ("changeover/driver.h", "changeover/str.h")

# Client libraries, by driver; OpenSSL where the client has no TLS of its own.
CLIENTS = {
    "postgresql": ["libpq-fe.h", "openssl/"],
    "mysql": ["mysql.h", "mariadb/", "mysql/", "errmsg.h", "mysqld_error.h", "openssl/"],
    "redis": ["hiredis/", "openssl/"],
    "mongodb": ["mongoc/", "mongoc.h", "bson/", "bson.h", "openssl/"],
    "elasticsearch": ["openssl/"],
    "fake": [],
}

SYSTEM = set(
    """assert ctype dirent dlfcn errno endian fcntl float ftw getopt grp inttypes langinfo libgen limits locale math netdb
    poll pthread pwd sched signal spawn stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib string strings
    syslog termios time unistd wchar""".split()
)
SYSTEM_FOLDERS = ("sys/", "arpa/", "netinet/", "net/", "linux/")

BANNED = {
    "strcpy": "co_text_set_str or memcpy with a length",
    "strcat": "co_text_add",
    "strncat": "co_text_add",
    "strncpy": "snprintf or memcpy with a length",
    "stpcpy": "memcpy with a length",
    "sprintf": "snprintf or co_printf",
    "vsprintf": "vsnprintf",
    "gets": "getline",
    "atoi": "co_parse_int",
    "atol": "co_parse_int",
    "atoll": "co_parse_int",
    "atof": "co_parse_int",
    "system": "co_process_run",
    "popen": "co_process_run",
    "sleep": "co_wait_until, or a condition",
    "usleep": "co_wait_until, or a condition",
    "strtok": "strtok_r",
    "asctime": "co_wall_format",
    "ctime": "co_wall_format",
    "localtime": "localtime_r",
    "gmtime": "gmtime_r",
    "rand": "getrandom",
    "srand": "getrandom",
    "alloca": "malloc",
    "tmpnam": "mkstemp",
    "tempnam": "mkstemp",
    "mktemp": "mkstemp",
    "setjmp": "results",
    "longjmp": "results",
    "gethostbyname": "getaddrinfo",
    "inet_ntoa": "inet_ntop",
    "readdir_r": "readdir",
}

# Descriptors that a child would inherit: call -> what must stand in the arguments.
CLOEXEC = {
    "open": r"O_CLOEXEC",
    "openat": r"O_CLOEXEC",
    "socket": r"SOCK_CLOEXEC",
    "socketpair": r"SOCK_CLOEXEC",
    "accept4": r"SOCK_CLOEXEC",
    "pipe2": r"O_CLOEXEC",
    "eventfd": r"EFD_CLOEXEC",
    "epoll_create1": r"EPOLL_CLOEXEC",
    "timerfd_create": r"TFD_CLOEXEC",
    "signalfd": r"SFD_CLOEXEC",
    "fopen": r'"[^"]*e[^"]*"\s*$',
    "mkostemp": r"O_CLOEXEC",
    "memfd_create": r"MFD_CLOEXEC",
    "pipe": None,
    "accept": None,
    "mkstemp": None,
    "dup": None,
}

ENGINES = re.compile(r"\b(postgres(?:ql)?|mysql|mariadb|redis|valkey|mongo(?:db)?|elasticsearch)\b", re.I)
# Examples that a person reads are the only strings of the core that name an engine.
ENGINE_EXAMPLES = {"src/config/schema.c", "src/config/url.c", "src/config/reference.c", "src/config/template.c"}


def split(text):
    """The code with comments and strings blanked out, and the code with comments alone blanked out."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)

    def blank(match, keep_strings):
        piece = match.group(0)
        if keep_strings and piece[0] in "\"'":
            return piece
        if piece[0] in "\"'":
            return piece[0] + " " * (len(piece) - 2) + piece[0]
        return re.sub(r"[^\n]", " ", piece)

    return (
        pattern.sub(lambda m: blank(m, False), text),
        pattern.sub(lambda m: blank(m, True), text),
    )


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def layer_of(folder):
    for number, folders in enumerate(LAYERS):
        if folder in folders:
            return number
    return None


def includes(code):
    for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', code, re.M):
        yield line_of(code, match.start()), match.group(1) == "<", match.group(2)


def arguments(code, at):
    """What stands between the parenthesis at `at` and its partner."""
    depth = 0
    for end in range(at, len(code)):
        depth += {"(": 1, ")": -1}.get(code[end], 0)
        if depth == 0:
            return code[at + 1 : end]
    return code[at + 1 :]


def calls(code, name):
    """Calls of a plain function: not a member, not a longer name, not a declaration's second word."""
    for match in re.finditer(r"(?<![\w.>])" + name + r"\s*\(", code):
        yield match.start(), match.end() - 1


def check_core_includes(path, folder, code, edges):
    mine = layer_of(folder)
    if mine is None:
        yield 1, f"folder src/{folder} is in no layer: add it to LAYERS and to the design"
        return
    for line, system, name in includes(code):
        if system:
            continue
        other = name.split("/")[0] if "/" in name else None
        if other == "changeover":
            continue
        if other is None:
            yield line, f'#include "{name}": name the folder, as in "{folder}/{name}"'
        elif layer_of(other) is None:
            yield line, f'#include "{name}": no such layer'
        elif layer_of(other) > mine:
            yield line, f'#include "{name}": {folder} is below {other}'
        elif other != folder:
            edges.setdefault(folder, {}).setdefault(other, f"{path}:{line}")


def check_driver_includes(driver, code):
    for line, system, name in includes(code):
        allowed = name in INSTALLED
        if system:
            allowed = name[:-2] in SYSTEM or name.startswith(SYSTEM_FOLDERS)
            allowed = allowed or any(name.startswith(client) for client in CLIENTS.get(driver, []))
        elif "/" not in name:
            allowed = True  # beside it
        elif name.startswith("server/") and driver == "fake":
            allowed = True
        if not allowed:
            yield line, f"{name}: a driver sees changeover/driver.h and changeover/str.h, libc and its client library"


def check_banned(code):
    for name, instead in BANNED.items():
        for at, _ in calls(code, name):
            yield line_of(code, at), f"{name} is banned: {instead}"


def check_cloexec(code, with_strings):
    for name, wanted in CLOEXEC.items():
        for at, parenthesis in calls(code, name):
            given = arguments(with_strings, parenthesis)
            declared = re.search(r"[\w*]\s+\**$", code[max(0, at - 40) : at].split("\n")[-1])
            if declared and not re.search(r"\b(return|else|do)\s+$", code[max(0, at - 40) : at]):
                continue  # a declaration
            if wanted is None:
                yield line_of(code, at), f"{name} leaves a descriptor to children: use the variant with CLOEXEC"
            elif not re.search(wanted, given):
                yield line_of(code, at), f"{name} without CLOEXEC"


def check_exit(path, code):
    """Only the command line ends the process; a child between fork and exec uses _exit."""
    if path.startswith("src/") and not path.startswith(("src/cli/", "src/main.c")):
        for at, _ in calls(code, "exit"):
            yield line_of(code, at), "library code doesn't exit"


def check_engines(path, code, with_strings):
    text = code if path in ENGINE_EXAMPLES else with_strings
    for match in ENGINES.finditer(text):
        yield line_of(text, match.start()), f"{match.group(0)}: only drivers know engines"


def check_head(path, text):
    name = path.rsplit("/", 1)[1]
    wanted = (f"/* {name} - ", f"/* changeover/{name} - ")
    if not text.startswith(wanted):
        yield 1, f"begins with what the file is for: /* {name} - ..."
    if name.endswith(".h"):
        if not re.search(r"^#ifndef (\w+)\n#define \1\n", text, re.M):
            yield 1, "no include guard"


def check_allocation(code):
    """sizeof of a pointer's target, written as a type, is how sizes drift."""
    for match in re.finditer(r"\bmalloc\s*\(\s*sizeof\s*\(\s*struct\b", code):
        yield line_of(code, match.start()), "malloc(sizeof *pointer) follows the type"


def check_file(path, text, edges):
    code, with_strings = split(text)
    yield from check_head(path, text)
    yield from check_banned(code)
    yield from check_cloexec(code, with_strings)
    yield from check_exit(path, code)
    yield from check_allocation(code)
    parts = path.split("/")
    if parts[0] == "src":
        folder = "main" if len(parts) == 2 else parts[1]
        yield from check_core_includes(path, folder, with_strings, edges)
        yield from check_engines(path, code, with_strings)
    elif parts[0] == "drivers":
        yield from check_driver_includes(parts[1], with_strings)
    elif parts[0] == "include":
        for line, system, name in includes(with_strings):
            if not system and not name.startswith("changeover/"):
                yield line, f"{name}: an installed header includes installed headers only"


def cycles(edges):
    """Folders of one group may include each other, but not in a circle."""
    for start in sorted(edges):
        stack, seen = [(start, [])], set()
        while stack:
            folder, way = stack.pop()
            for other, where in sorted(edges.get(folder, {}).items()):
                if other == start:
                    yield where, "a circle of folders: " + " -> ".join([start] + [w for w in way] + [start])
                elif other not in seen:
                    seen.add(other)
                    stack.append((other, way + [other]))


def files(root):
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        names = listed.stdout.splitlines()
    else:  # an unpacked archive
        names = [str(path.relative_to(root)) for top in ("src", "drivers", "include") for path in (root / top).rglob("*")]
    return sorted(n for n in names if n.endswith((".c", ".h")) and n.split("/")[0] in ("src", "drivers", "include"))


def check(root):
    edges, breaches, count = {}, [], 0
    for name in files(root):
        path = root / name
        if not path.exists():
            continue
        count += 1
        text = path.read_text(encoding="utf-8")
        breaches += [f"{name}:{line}: {what}" for line, what in check_file(name, text, edges)]
    breaches += sorted({f"{where}: {what}" for where, what in cycles(edges)})
    print("\n".join(breaches) or f"{count} files keep to the rules")
    if count == 0:
        print("no files were found")
    return 1 if breaches or count == 0 else 0


HEAD = "/* x.c - test */\n"
CASES = [  # path, text after the head, words of the breach, or None: fine
    ("src/base/x.c", '#include "base/text.h"\n', None),
    ("src/base/x.c", '#include "journal/journal.h"\n', "below journal"),
    ("src/journal/x.c", '#include "cutover/cutover.h"\n', "below cutover"),
    ("src/cutover/x.c", '#include "lag/lag.h"\n#include "journal/journal.h"\n', None),
    ("src/cutover/x.c", '#include "cli/cli.h"\n', "below cli"),
    ("src/cutover/x.c", '#include "cutover.h"\n', "name the folder"),
    ("src/novel/x.c", "", "no layer"),
    ("src/main.c", '#include "cli/cli.h"\n', None),
    ("drivers/redis/x.c", '#include "changeover/driver.h"\n#include <hiredis/hiredis.h>\n#include "rd.h"\n', None),
    ("drivers/redis/x.c", '#include "changeover/str.h"\n', None),
    ("drivers/redis/x.c", '#include "changeover/exit_codes.h"\n', "a driver sees"),
    ("drivers/redis/x.c", "#include <libpq-fe.h>\n", "a driver sees"),
    ("drivers/redis/x.c", '#include "base/text.h"\n', "a driver sees"),
    ("drivers/redis/x.c", "#include <jansson.h>\n", "a driver sees"),
    ("src/base/x.c", "void f(void) { strcpy(a, b); }\n", "strcpy is banned"),
    ("src/base/x.c", "void f(void) { /* strcpy(a, b) */ g(\"strcpy(a)\"); x.sleep(1); my_sleep(1); }\n", None),
    ("src/base/x.c", "void f(void) { usleep(1); }\n", "usleep is banned"),
    ("src/base/x.c", "void f(void) { int fd = open(p, O_RDONLY); }\n", "open without CLOEXEC"),
    ("src/base/x.c", "void f(void) { int fd = open(p, O_RDONLY | O_CLOEXEC); }\n", None),
    ("src/base/x.c", 'void f(void) { FILE *f = fopen(p, "r"); }\n', "fopen without CLOEXEC"),
    ("src/base/x.c", 'void f(void) { FILE *f = fopen(p, "re"); }\n', None),
    ("src/base/x.c", "void f(void) { if (pipe(p)) return; }\n", "pipe leaves"),
    ("src/base/x.c", "int open(struct x *x);\n", None),
    ("src/base/x.c", "void f(void) { exit(1); }\n", "doesn't exit"),
    ("src/cli/x.c", "void f(void) { exit(1); }\n", None),
    ("src/lag/x.c", 'const char *f(void) { return "redis"; }\n', "only drivers know"),
    ("src/lag/x.c", "/* as redis does */\n", None),
    ("drivers/redis/x.c", 'const char *f(void) { return "redis"; }\n', None),
    ("src/base/x.c", "void f(void) { p = malloc(sizeof(struct x)); }\n", "follows the type"),
    ("include/changeover/x.c", '#include "base/text.h"\n', "installed headers only"),
]


def self_test():
    failed = 0
    for path, text, wanted in CASES:
        head = HEAD.replace("x.c", path.rsplit("/", 1)[1])
        found = [what for _, what in check_file(path, head + text, {})]
        fine = not found if wanted is None else any(wanted in what for what in found)
        if not fine:
            failed += 1
            print(f"{path}: {text!r}: expected {wanted!r}, found {found}")
    if not any("begins with" in what for _, what in check_head("src/base/x.c", "int x;\n")):
        failed += 1
        print("a file without its head wasn't found")
    if not list(cycles({"lag": {"cutover": "a:1"}, "cutover": {"lag": "b:2"}})):
        failed += 1
        print("a circle wasn't found")
    print(f"{len(CASES) + 2 - failed} passed, {failed} failed")
    return 1 if failed else 0


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("--check", "--self-test"):
        print(__doc__, file=sys.stderr)
        return 64
    return self_test() if sys.argv[1] == "--self-test" else check(Path(sys.argv[2]))


if __name__ == "__main__":
    sys.exit(main())
