#!/usr/bin/env python3
"""Reads messages as Flink's canal-json, debezium-json and maxwell-json formats do.

usage: flink_readers.py FORMAT KEY whole|key COLUMN:TYPE ... <messages

Rebuilds the rows of one table from its messages and prints them, sorted, as lines of COLUMN values
apart by "|", an empty one for null. The first columns, as many as KEY says, are the key. "whole":
rows before a change are told as a whole (REPLICA IDENTITY FULL), and have to be right. Types are
int, string, decimal, bool, bytes, timestamp, micros (a timestamp as Debezium has it). Any message
that Flink would refuse ends it with an error: its readers know exactly the types of messages below,
and take what is missing for null.
"""
import base64
import datetime
import json
import sys
from decimal import Decimal


def refuse(why, message):
    sys.exit("refused: %s: %s" % (why, message[:300]))


# ---- values, as JsonToRowDataConverters has them: from JSON's own types or from their text ----

def text_of(value):
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return str(value)


def read_bool(value):
    return value if isinstance(value, bool) else text_of(value).strip().lower() == "true"


def read_bytes(value):
    return base64.b64decode(text_of(value), validate=True).hex()


def read_debezium_decimal(value):
    # Flink's debezium-json wants decimal.handling.mode=string; whoever reads the precise mode
    # takes the unscaled value and the schema's scale
    unscaled = base64.b64decode(value, validate=True)
    return Decimal(int.from_bytes(unscaled, "big", signed=True)).scaleb(-2)


def read_micros(value):
    at = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=int(value))
    return str(at).rstrip("0").rstrip(".") if at.microsecond else str(at)


READERS = {
    "int": lambda value: int(text_of(value).strip()),
    "string": text_of,
    "decimal": lambda value: Decimal(text_of(value)),
    "bool": read_bool,
    "bytes": read_bytes,
    "timestamp": text_of,
    "micros": read_micros,
}


def read_row(row, columns, fmt):
    values = []
    for name, kind in columns:
        value = row.get(name)
        if value is None:
            values.append(None)
        elif fmt == "debezium" and kind == "decimal":
            values.append(read_debezium_decimal(value))
        elif fmt == "canal" and kind == "bytes":
            values.append(value.encode("latin1").hex())
        elif fmt == "canal" and kind == "bool":
            # of MySQL's tinyint(1): Flink's table has a TINYINT there
            values.append(int(value) == 1)
        else:
            values.append(READERS[kind](value))
    return values


# ---- messages: a list of (kind, row), with kinds as RowKind has them ----

def canal(message, columns, raw):
    for field in ("data", "type", "database", "table"):
        if field not in message:
            refuse("no field " + field, raw)
    kind = message["type"]
    rows = message["data"]
    if kind in ("INSERT", "DELETE"):
        sign = "+I" if kind == "INSERT" else "-D"
        return [(sign, read_row(row, columns, "canal")) for row in rows]
    if kind == "UPDATE":
        changes = []
        for row, old in zip(rows, message["old"]):
            after = read_row(row, columns, "canal")
            before = read_row(old, columns, "canal")
            # null or missing in old: not changed, but for what old names in the raw JSON
            for i, (name, _) in enumerate(columns):
                if before[i] is None and name not in old:
                    before[i] = after[i]
            changes += [("-U", before), ("+U", after)]
        return changes
    if kind == "CREATE":
        return []
    return refuse("unknown type " + str(kind), raw)


def debezium(message, columns, raw):
    op = message.get("op")
    if op in ("c", "r"):
        return [("+I", read_row(message["after"], columns, "debezium"))]
    if op in ("u", "d") and message.get("before") is None:
        refuse("no before: the table needs REPLICA IDENTITY FULL", raw)
    if op == "u":
        return [("-U", read_row(message["before"], columns, "debezium")),
                ("+U", read_row(message["after"], columns, "debezium"))]
    if op == "d":
        return [("-D", read_row(message["before"], columns, "debezium"))]
    return refuse("unknown op " + str(op), raw)


def maxwell(message, columns, raw):
    kind = message["type"]
    if kind in ("insert", "delete"):
        return [("+I" if kind == "insert" else "-D", read_row(message["data"], columns, "maxwell"))]
    if kind == "update":
        after = read_row(message["data"], columns, "maxwell")
        before = read_row(message["old"], columns, "maxwell")
        # it looks at the raw JSON: a null of the row before is there, with its name
        for i, (name, _) in enumerate(columns):
            if name not in message["old"]:
                before[i] = after[i]
        return [("-U", before), ("+U", after)]
    return refuse("unknown type " + str(kind), raw)


# ---- the table ----

def apply(rows, changes, nkeys, strict, raw):
    for kind, row in changes:
        key = tuple(row[:nkeys])
        if kind in ("-U", "-D"):
            if key not in rows:
                refuse("no row " + str(key), raw)
            # a changelog of whole rows tells the row that is there
            if strict and rows[key] != row:
                refuse("another row than %s" % rows[key], raw)
            del rows[key]
        else:
            if key in rows:
                refuse("a row that is there", raw)
            rows[key] = row


def show(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value).replace("\n", "~")


def main():
    fmt, nkeys, whole = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "whole"
    columns = [tuple(column.split(":")) for column in sys.argv[4:]]
    reader = {"canal": canal, "debezium": debezium, "maxwell": maxwell}[fmt]
    rows = {}
    messages = 0
    for raw in sys.stdin.buffer:
        raw = raw.decode("utf-8").rstrip("\n")
        if not raw:
            continue                # a tombstone
        apply(rows, reader(json.loads(raw, parse_float=Decimal), columns, raw), nkeys, whole, raw)
        messages += 1
    print("messages %d" % messages, file=sys.stderr)
    lines = ("|".join(show(value) for value in row) for row in rows.values())
    for line in sorted(line.encode() for line in lines):
        sys.stdout.buffer.write(line + b"\n")


main()
