"""Engines by the name that the config uses."""
import importlib
import os

from .box import Pair, ServerMissing
from .tool import build_folder

# engine name: (module, class, driver module)
ENGINES = {
    "fake": ("fake", "Fake", "fake"),
    "fake-rounds": ("fake", "FakeRounds", "fake"),
    "fake-novote": ("fake", "FakeNovote", "fake"),
    "postgresql": ("postgresql", "PostgreSQL", "postgresql"),
    "postgresql-stop": ("postgresql", "PostgreSQLStop", "postgresql"),
    "postgresql13": ("postgresql", "PostgreSQL13", "postgresql"),
    "postgresql17": ("postgresql", "PostgreSQL17", "postgresql"),
    "postgresql18": ("postgresql", "PostgreSQL18", "postgresql"),
    "mariadb": ("mariadb", "MariaDB", "mysql"),
    "mysql": ("mariadb", "MySQL", "mysql"),
    "mysql-file": ("mariadb", "MySQLFile", "mysql"),
    "redis": ("redis_server", "Redis", "redis"),
    "valkey": ("redis_server", "Valkey", "redis"),
    "redis8": ("redis_server", "Redis8", "redis"),
    "redis-to-valkey": ("redis_server", "RedisToValkey", "redis"),
    "redis5.0": ("redis_server", "Redis50", "redis"),
    "redis6.0": ("redis_server", "Redis60", "redis"),
    "redis6.2": ("redis_server", "Redis62", "redis"),
    "redis7.4": ("redis_server", "Redis74", "redis"),
    "valkey7.2": ("redis_server", "Valkey72", "redis"),
    "mongodb": ("mongodb", "MongoDB", "mongodb"),
    "mongodb-double": ("mongodb", "MongoDBDouble", "mongodb"),
}


if os.environ.get("CO_MARIADB_SERVERS"):  # versions of MariaDB, see tools/make-mariadb-server
    from .mariadb import versions

    ENGINES.update({engine: ("mariadb", engine, "mysql") for engine in versions()})


def server_class(engine):
    module, name, _ = ENGINES[engine]
    if engine == name:
        return versions()[engine]
    try:
        return getattr(importlib.import_module(f".{module}", __package__), name)
    except ImportError as error:
        raise ServerMissing(f"{engine}: {error}") from error


def engine_reason(engine):
    """Why this engine can't be tested here, or None."""
    driver = ENGINES[engine][2]
    if not (build_folder() / "drivers" / f"changeover-{driver}.so").exists():
        return f"{engine}: no driver changeover-{driver}.so"
    try:
        return server_class(engine).missing()
    except ServerMissing as error:
        return str(error)


def make_pair(box, engine, name="main", start=True, **options):
    made = server_class(engine)
    reason = made.missing()
    if reason:
        raise ServerMissing(reason)
    made_b = getattr(made, "b_class", None) or made
    a, b = box.add(made(box, f"{name}-a")), box.add(made_b(box, f"{name}-b"))
    pair = Pair(name, made.engine, a, b)
    made.prepare_pair(pair, **options)
    if start:
        a.start()
        b.start()
        made.fill(pair)
    return pair
