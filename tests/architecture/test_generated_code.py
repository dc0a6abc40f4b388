"""The committed code in tlog/v1 is what protoc writes from proto/tlog/v1, and nobody edited it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from _support.proto_lint import compile_protos
from _support.source_tree import ROOT
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from tlog.v1 import log_pb2


def run_generator(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run proto/generate.py of a checkout."""
    return subprocess.run(
        [sys.executable, str(root / "proto" / "generate.py"), *arguments],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def release_in_constraints() -> str:
    """The grpcio-tools release in constraints.txt: every release writes other bytes."""
    match = re.search(r"^grpcio-tools==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert match
    return match[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the schema and of freshly generated code, to damage."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    (tmp_path / "tlog" / "v1").mkdir(parents=True)
    assert run_generator(tmp_path).returncode == 0
    return tmp_path


def test_the_committed_code_is_byte_for_byte_what_protoc_writes() -> None:
    installed, tested = version("grpcio-tools"), release_in_constraints()
    if installed != tested:
        pytest.skip(f"bytes are compared with grpcio-tools {tested} only, and {installed} is installed")
    checked = run_generator(ROOT, "--check")
    assert checked.returncode == 0, checked.stderr


def test_the_committed_code_speaks_the_committed_schema(tmp_path: Path) -> None:
    compiled = compile_protos(ROOT / "proto", tmp_path / "descriptors")
    (schema,) = [file for file in compiled if file.name == "tlog/v1/log.proto"]
    schema.ClearField("source_code_info")
    # protoc writes the names for JSON into a descriptor set; generated code leaves them to be derived.
    for message in schema.message_type:
        assert not message.nested_type
        for field in message.field:
            field.ClearField("json_name")
    assert FileDescriptorProto.FromString(log_pb2.DESCRIPTOR.serialized_pb) == schema


def test_the_package_is_tlog_v1() -> None:
    assert log_pb2.DESCRIPTOR.package == "tlog.v1"
    assert log_pb2.DESCRIPTOR.services_by_name["LogService"].full_name == "tlog.v1.LogService"


def test_the_floors_of_the_project_are_those_of_the_generated_code() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    grpc_code = (ROOT / "tlog/v1/log_pb2_grpc.py").read_text()
    message_code = (ROOT / "tlog/v1/log_pb2.py").read_text()
    grpcio = re.search(r"^GRPC_GENERATED_VERSION = '([^']+)'", grpc_code, re.MULTILINE)
    protobuf = re.search(r"^# Protobuf Python Version: (\S+)", message_code, re.MULTILINE)
    assert grpcio
    assert protobuf
    assert f'"grpcio>={grpcio[1]}"' in project
    assert f'"protobuf>={protobuf[1]}"' in project


def test_fresh_code_passes_the_check(checkout: Path) -> None:
    checked = run_generator(checkout, "--check")
    assert (checked.returncode, checked.stdout) == (0, "the generated code is fresh\n")


def test_edited_code_fails_the_check_and_is_named(checkout: Path) -> None:
    with (checkout / "tlog/v1/log_pb2_grpc.py").open("a") as file:
        file.write("# mended by hand\n")
    checked = run_generator(checkout, "--check")
    assert checked.returncode == 1
    assert "tlog/v1/log_pb2_grpc.py differs" in checked.stderr
    assert "make generate" in checked.stderr


def test_missing_and_left_over_code_fails_the_check_and_is_named(checkout: Path) -> None:
    (checkout / "tlog/v1/log_pb2.pyi").unlink()
    (checkout / "tlog/v1/old_pb2.py").write_text("")
    checked = run_generator(checkout, "--check")
    assert checked.returncode == 1
    assert "tlog/v1/log_pb2.pyi is missing" in checked.stderr
    assert "tlog/v1/old_pb2.py has no .proto file any more" in checked.stderr


def test_a_schema_that_does_not_compile_leaves_the_code_as_it_was(checkout: Path) -> None:
    before = (checkout / "tlog/v1/log_pb2.py").read_bytes()
    (checkout / "proto/tlog/v1/log.proto").write_text("message {")
    failed = run_generator(checkout)
    assert failed.returncode == 1
    assert "protoc failed" in failed.stderr
    assert (checkout / "tlog/v1/log_pb2.py").read_bytes() == before
