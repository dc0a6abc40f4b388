"""Rules for .proto files: buf's STANDARD and COMMENTS categories, as far as this project needs them.

Works on descriptors with source information, so it needs protoc (from grpcio-tools) and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path, PurePosixPath

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

PASCAL_CASE = re.compile(r"[A-Z][A-Za-z0-9]*\Z")
LOWER_SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*\Z")
UPPER_SNAKE_CASE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*\Z")
VERSION_SUFFIX = re.compile(r"\.v[1-9][0-9]*((alpha|beta)[1-9][0-9]*)?\Z")
WORD_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def compile_protos(folder: Path, output: Path) -> list[FileDescriptorProto]:
    """Compile every .proto below a folder to descriptors with comments; `output` is a scratch file."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.proto"))
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={folder}",
            f"--proto_path={files('grpc_tools') / '_proto'}",
            f"--descriptor_set_out={output}",
            "--include_source_info",
            *names,
        ]
    )
    assert status == 0, f"protoc failed with status {status}"
    return list(FileDescriptorSet.FromString(output.read_bytes()).file)


def lint(file: FileDescriptorProto) -> list[str]:
    """Everything in a file that breaks a rule, each as `<where>: <what>`."""
    return list(_Linter(file).file_faults())


class _Linter:
    """One file, with its comments by descriptor path."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._commented = {
            tuple(location.path)
            for location in file.source_code_info.location
            if location.leading_comments.strip()  # the one before it: buf does not count the one behind
        }

    def file_faults(self) -> Iterator[str]:
        file = self._file
        path = PurePosixPath(file.name)
        if file.syntax != "proto3":
            yield f"{file.name}: the syntax is not proto3"
        if not VERSION_SUFFIX.search(file.package):
            yield f"{file.name}: package {file.package!r} does not end in a version such as .v1"
        if path.parent.as_posix() != file.package.replace(".", "/"):
            yield f"{file.name}: package {file.package!r} does not match the folder {path.parent}"
        if not LOWER_SNAKE_CASE.match(path.stem):
            yield f"{file.name}: the file name is not lower_snake_case"
        if file.public_dependency or file.weak_dependency:
            yield f"{file.name}: imports are neither public nor weak"
        for index, message in enumerate(file.message_type):
            yield from self._message_faults(message, "", (4, index))
        for index, enum in enumerate(file.enum_type):
            yield from self._enum_faults(enum, "", (5, index))
        for index, service in enumerate(file.service):
            yield from self._service_faults(service, (6, index))
        yield from self._sharing_faults()

    def _uncommented(self, where: str, path: Sequence[int]) -> Iterator[str]:
        if tuple(path) not in self._commented:
            yield f"{where}: has no comment"

    def _message_faults(self, message: DescriptorProto, outer: str, path: tuple[int, ...]) -> Iterator[str]:
        where = f"{outer}{message.name}"
        if message.options.map_entry:
            return
        yield from self._uncommented(where, path)
        if not PASCAL_CASE.match(message.name):
            yield f"{where}: a message's name is PascalCase"
        for index, field in enumerate(message.field):
            name = f"{where}.{field.name}"
            yield from self._uncommented(name, (*path, 2, index))
            if not LOWER_SNAKE_CASE.match(field.name):
                yield f"{name}: a field's name is lower_snake_case"
        synthetic = {field.oneof_index for field in message.field if field.proto3_optional}
        for index, oneof in enumerate(message.oneof_decl):
            if index in synthetic:
                continue
            name = f"{where}.{oneof.name}"
            yield from self._uncommented(name, (*path, 8, index))
            if not LOWER_SNAKE_CASE.match(oneof.name):
                yield f"{name}: a oneof's name is lower_snake_case"
        for index, nested in enumerate(message.nested_type):
            yield from self._message_faults(nested, f"{where}.", (*path, 3, index))
        for index, enum in enumerate(message.enum_type):
            yield from self._enum_faults(enum, f"{where}.", (*path, 4, index))

    def _enum_faults(self, enum: EnumDescriptorProto, outer: str, path: tuple[int, ...]) -> Iterator[str]:
        where = f"{outer}{enum.name}"
        prefix = WORD_BOUNDARY.sub("_", enum.name).upper() + "_"
        yield from self._uncommented(where, path)
        if not PASCAL_CASE.match(enum.name):
            yield f"{where}: an enum's name is PascalCase"
        if enum.options.allow_alias:
            yield f"{where}: two names for one number"
        for index, value in enumerate(enum.value):
            name = f"{where}.{value.name}"
            yield from self._uncommented(name, (*path, 2, index))
            if not UPPER_SNAKE_CASE.match(value.name):
                yield f"{name}: an enum value's name is UPPER_SNAKE_CASE"
            if not value.name.startswith(prefix):
                yield f"{name}: an enum value's name begins with {prefix}"
            if value.number == 0 and not value.name.endswith("_UNSPECIFIED"):
                yield f"{name}: the zero value's name ends in _UNSPECIFIED"

    def _service_faults(self, service: ServiceDescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
        where = service.name
        yield from self._uncommented(where, path)
        if not PASCAL_CASE.match(service.name) or not service.name.endswith("Service"):
            yield f"{where}: a service's name is PascalCase and ends in Service"
        for index, method in enumerate(service.method):
            name = f"{where}.{method.name}"
            yield from self._uncommented(name, (*path, 2, index))
            if not PASCAL_CASE.match(method.name):
                yield f"{name}: a method's name is PascalCase"
            for kind, actual in (("Request", method.input_type), ("Response", method.output_type)):
                expected = f".{self._file.package}.{method.name}{kind}"
                if actual != expected:
                    yield f"{name}: takes or returns {actual} where {expected} is the rule"

    def _sharing_faults(self) -> Iterator[str]:
        used: dict[str, str] = {}
        for service in self._file.service:
            for method in service.method:
                for message in (method.input_type, method.output_type):
                    if message in used:
                        yield f"{service.name}.{method.name}: shares {message} with {used[message]}"
                    used[message] = f"{service.name}.{method.name}"
