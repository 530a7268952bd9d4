"""A QMP client as management programs are written: qmp-client.py SOCKET. Prints "ok" last."""
import json
import os
import socket
import sys

connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
lines = connection.makefile("r", encoding="utf-8", newline="\n")


def answer(identity):
    while True:
        message = json.loads(lines.readline())
        if message.get("id") == identity or "event" not in message and identity is None:
            return message


def ask(name, **arguments):
    ask.count += 1
    request = {"execute": name, "id": ask.count}
    if arguments:
        request["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
    connection.sendall(json.dumps(request).encode())
    return answer(ask.count)


ask.count = 0
greeting = json.loads(lines.readline())
assert greeting["QMP"]["capabilities"] == ["oob"], greeting
assert ask("query-status")["error"]["class"] == "CommandNotFound"      # not negotiated yet
assert ask("qmp_capabilities") == {"return": {}, "id": 2}
assert ask("query-status")["return"]["status"] == "prelaunch"
assert ask("cont")["return"] == {}
assert ask("query-status")["return"]["running"] is True
names = {command["name"] for command in ask("query-commands")["return"]}
assert {"query-status", "trace-event-set-state", "quit"} <= names
assert len(ask("query-qmp-schema")["return"]) > 300

# Several objects on a line, and one that is split inside a character.
connection.sendall('{"execute":"query-name","id":"a"} {"execute":"query-name","id":"\u00e9"}'.encode()[:-3])
connection.sendall('{"execute":"query-name","id":"\u00e9"}'.encode()[-3:])
assert answer("a")["return"] == {"name": "n"} and answer("\u00e9")["return"] == {"name": "n"}

# More than may stand in a request.
def most_memory():
    with open(f"/proc/{sys.argv[2]}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


before = most_memory()
for times, flood, message in ((1, b"[" * 1_000_000, "nesting depth"), (1024, b"a" * (1 << 20), "token size")):
    connection.sendall(b'"' if flood[:1] == b"a" else b"[")
    for _ in range(times):
        connection.sendall(flood)
    connection.sendall(b"\n")
    assert message in answer(None)["error"]["desc"]
    assert ask("query-name")["return"] == {"name": "n"}

assert most_memory() - before < 400 << 10, (before, most_memory())     # KiB

# Descriptors that nobody asked for are closed; one that is asked for is kept.
own = f"/proc/{sys.argv[2]}/fd"
before = len(os.listdir(own))
for _ in range(200):
    socket.send_fds(connection, [b" "], [0] * 50)
assert ask("query-name")["return"] == {"name": "n"}
assert len(os.listdir(own)) <= before + 50, (before, len(os.listdir(own)))
socket.send_fds(connection, [b'{"execute":"getfd","id":"fd","arguments":{"fdname":"x"}}'], [0])
assert "return" in answer("fd")
assert ask("closefd", fdname="x")["return"] == {}
assert ask("quit")["return"] == {}
print("ok")
