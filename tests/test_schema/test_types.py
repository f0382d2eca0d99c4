"""archer.rs and archer.ts compile without a complaint, and every example fits them. Rust and Node are needed."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from archer_ws.core.json_schema import Wire, examples_of
from archer_ws.rpc.messages import NOTIFICATIONS
from archer_ws.schema.catalog import METHODS, definitions
from archer_ws.schema.documents import json_schemas
from archer_ws.schema.shapes import Named, Union, shapes_of
from tests.interop.cargo import built, cargo

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
CRATE = ROOT / "tests" / "interop" / "types_rs"
NODE_PROJECT = ROOT / "tests" / "interop" / "node"
TSC_OPTIONS = {
    "strict": True,
    "noEmit": True,
    "exactOptionalPropertyTypes": True,
    "noUncheckedIndexedAccess": True,
    "noUnusedLocals": True,
    "target": "es2022",
    "module": "esnext",
    "moduleResolution": "bundler",
    "lib": ["es2022"],
    "types": [],
}
ReadAgain = Callable[[str, Any], Any]


def examples() -> list[tuple[str, Any]]:
    """Every example with its type's name."""
    return [
        (schema["title"], example) for schema in json_schemas(definitions()).values() for example in schema["examples"]
    ]


def frames() -> Iterator[dict[str, Any]]:
    """Every kind of message a server sends."""
    for name, model in NOTIFICATIONS.items():
        for example in examples_of(model, Wire.SOCKET):
            yield {"jsonrpc": "2.0", "method": name, "params": example}


def run_cargo(command: str, *arguments: str, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [cargo(), command, "--quiet", *arguments],
        cwd=CRATE,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=280,
        check=False,
    )


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the crate knows every type by its name."""
    names = [*shapes_of(definitions()), "Notification"]
    arms = "".join(f'"{name}" => again::<archer::{name}>(text),\n' for name in names)
    code = (
        "fn read_as(name: &str, text: &str) -> serde_json::Result<String> {\n"
        f'match name {{\n{arms}other => panic!("{{other}}"),\n}}\n}}\n'
    )
    file = tmp_path_factory.mktemp("read_as") / "read_as.rs"
    file.write_text(code, "utf-8")
    return {"READ_AS": str(file)}


@pytest.fixture(scope="module")
def read_again(generated: dict[str, str]) -> Iterator[ReadAgain]:
    """What Rust writes of a value that it has read as a type; a text where it can't read it."""
    building = run_cargo("build", environment=generated)
    assert building.returncode == 0, building.stderr
    process = subprocess.Popen([built(CRATE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def again(name: str, value: Any) -> Any:
        stdin.write(f"{name}\t{json.dumps(value)}\n")
        stdin.flush()
        answer = stdout.readline()
        return answer.strip() if answer.startswith("error: ") else json.loads(answer)

    yield again
    stdin.close()
    assert process.wait(timeout=30) == 0
    stdout.close()


def test_the_rust_types_compile_without_a_warning(generated: dict[str, str]) -> None:
    checked = run_cargo("clippy", "--all-targets", "--", "-D", "warnings", environment=generated)
    assert checked.returncode == 0, checked.stderr
    assert checked.stderr == ""


def test_rust_reads_every_example_and_writes_it_again(read_again: ReadAgain) -> None:
    members = {name for union in tagged_unions() for name in members_of(union)}
    for name, example in examples():
        if name not in members:
            assert contains(read_again(name, example), example), (name, example)


def test_a_tagged_union_s_members_are_read_and_written_by_their_tag_in_rust(read_again: ReadAgain) -> None:
    parts = [example for union in tagged_unions() for name, example in examples() if name in members_of(union)]
    assert {part["type"] for part in parts} == {"text", "image", "file"}
    for part in parts:
        assert read_again("Part", part) == part
        # The member's own structure has no tag: its union writes that.
        assert read_again(f"{part['type'].capitalize()}Part", part).keys() == part.keys() - {"type"}


def tagged_unions() -> list[Union]:
    return [shape for shape in shapes_of(definitions()).values() if isinstance(shape, Union) and shape.tag]


def members_of(union: Union) -> set[str]:
    return {arm.type.name for arm in union.arms if isinstance(arm.type, Named)}


def contains(written: Any, given: Any) -> bool:
    """Whether all that was given is there again; a null may be missing, a default may have been filled in."""
    if isinstance(given, dict) and isinstance(written, dict):
        return all(contains(written.get(name), value) for name, value in given.items())
    if isinstance(given, list) and isinstance(written, list):
        return len(given) == len(written) and all(map(contains, written, given))
    return bool(written == given)


def test_rust_writes_nothing_that_was_not_there_but_defaults(read_again: ReadAgain) -> None:
    assert read_again("ChatMessage", {"role": "user", "content": "x"}) == {"role": "user", "content": "x"}
    assert read_again("StreamSubscribeParams", {"stream_id": "a"}) == {"stream_id": "a", "after": 0}
    assert read_again("ChatSendParams", {"messages": []}) == {"messages": [], "stream": True}
    assert read_again("ChatRequest", {"messages": []}) == {"messages": [], "stream": False}


def test_rust_reads_every_notification_whole(read_again: ReadAgain) -> None:
    for frame in frames():
        assert read_again("Notification", frame) == frame


@pytest.mark.parametrize(
    "frame",
    [
        {"jsonrpc": "2.0", "method": "stream/whispered", "params": {"stream_id": "a", "volume": 0.1}},
        {"jsonrpc": "2.0", "method": "$/novelty"},
        {"jsonrpc": "2.0", "method": "session/renamed", "params": ["by position"]},
    ],
)
def test_rust_keeps_an_unknown_notification_as_it_came(read_again: ReadAgain, frame: dict[str, Any]) -> None:
    assert read_again("Notification", frame) == frame


def test_a_known_notification_with_broken_params_is_an_error_in_rust(read_again: ReadAgain) -> None:
    frame = {"jsonrpc": "2.0", "method": "stream/ended", "params": {"stream_id": "a", "status": "completed"}}
    assert read_again("Notification", frame).startswith("error: stream/ended: missing field")


def test_rust_keeps_unknown_values_and_ignores_unknown_fields(read_again: ReadAgain) -> None:
    ended = {"stream_id": "a", "seq": 1, "status": "melted", "finish_reason": "bored", "text_bytes": 0}
    assert read_again("StreamEnded", {**ended, "novelty": {"a": [1]}}) == ended
    for name in ("StreamStatus", "FinishReason", "ErrorKind", "MessageRole", "CancelReason", "ProgressPhase"):
        assert read_again(name, "a value of tomorrow") == "a value of tomorrow"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "Why?",
        [{"type": "text", "text": "Why?"}, {"type": "text", "text": ""}],
        [{"type": "image", "url": "data:image/png;base64,aGk=", "detail": "low"}, {"type": "file", "file_id": "f"}],
        [{"type": "video", "url": "https://example.com/v", "frames": [1, 2.5, None]}, {"type": "text", "text": "x"}],
        [{"no": "type"}, 7],
    ],
)
def test_rust_keeps_content_as_it_came_be_it_text_parts_or_parts_of_tomorrow(
    read_again: ReadAgain, content: Any
) -> None:
    assert read_again("Content", content) == content
    message = {"role": "user", "content": content}
    assert read_again("ChatMessage", message) == message


def test_rust_reads_a_tool_choice_by_its_word_or_by_its_name(read_again: ReadAgain) -> None:
    for choice in ("auto", "none", "required", {"name": "get_weather"}):
        assert read_again("ToolChoice", choice) == choice
    for wrong in ("sometimes", {"function": {"name": "get_weather"}}, 7):
        assert read_again("ToolChoice", wrong).startswith("error: "), wrong


def test_what_clients_send_is_closed_in_rust(read_again: ReadAgain) -> None:
    assert read_again("OnBusy", "wait").startswith("error: ")


def compiled(directory: Path, **files: str) -> str:
    """What the TypeScript compiler says of the files, beside archer.d.ts as a program would have it."""
    shutil.copy(ROOT / "schemas" / "archer.ts", directory / "archer.d.ts")
    for name, text in files.items():
        (directory / f"{name}.ts").write_text(text, "utf-8")
    settings = {"compilerOptions": TSC_OPTIONS, "include": ["*.ts"]}
    (directory / "tsconfig.json").write_text(json.dumps(settings), "utf-8")
    done = subprocess.run(
        ["node", NODE_PROJECT / "node_modules" / "typescript" / "bin" / "tsc", "-p", directory],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode in {0, 1, 2}, done.stderr
    return done.stdout


def test_a_program_can_be_written_with_the_typescript_types_and_mistakes_are_found(tmp_path: Path) -> None:
    usage = (Path(__file__).parent / "usage.ts").read_text("utf-8")
    assert compiled(tmp_path, usage=usage, archer=(ROOT / "schemas" / "archer.ts").read_text("utf-8")) == ""


def test_every_example_is_assignable_in_typescript(tmp_path: Path) -> None:
    lines = ['import type * as archer from "./archer.js";']
    for number, (name, example) in enumerate(examples()):
        lines.append(f"export const example{number}: archer.{name} = {json.dumps(example)};")
    for number, frame in enumerate(frames()):
        lines.append(f"export const frame{number}: archer.Notification = {json.dumps(frame)};")
    for method in METHODS:
        for params in examples_of(method.params, Wire.CLIENT):
            request = {"jsonrpc": "2.0", "id": 1, "method": method.name, "params": params}
            lines.append(f"export const request{len(lines)}: archer.Request = {json.dumps(request)};")
        for result in examples_of(method.result, Wire.SOCKET):
            response = {"jsonrpc": "2.0", "id": 1, "result": result}
            told = f'archer.Response<"{method.name}">'
            lines.append(f"export const response{len(lines)}: {told} = {json.dumps(response)};")
    assert compiled(tmp_path, examples="\n".join(lines)) == ""


def test_a_wrong_example_is_not_assignable(tmp_path: Path) -> None:
    """The test above can fail."""
    wrong = 'import type { StreamDelta } from "./archer.js";\n'
    wrong += 'export const delta: StreamDelta = { stream_id: "a", from: "1", seq: 2 };\n'
    assert "Type 'string' is not assignable to type 'number'" in compiled(tmp_path, wrong=wrong)
