from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExchangeRequest(_message.Message):
    __slots__ = ("evidence", "evidence_held", "checkpoints", "wanted", "paths")
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_HELD_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    evidence: _containers.RepeatedScalarFieldContainer[bytes]
    evidence_held: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoints: _containers.RepeatedCompositeFieldContainer[OfferedCheckpoint]
    wanted: _containers.RepeatedCompositeFieldContainer[WantedPath]
    paths: _containers.RepeatedCompositeFieldContainer[GivenPath]
    def __init__(self, evidence: _Optional[_Iterable[bytes]] = ..., evidence_held: _Optional[_Iterable[bytes]] = ..., checkpoints: _Optional[_Iterable[_Union[OfferedCheckpoint, _Mapping]]] = ..., wanted: _Optional[_Iterable[_Union[WantedPath, _Mapping]]] = ..., paths: _Optional[_Iterable[_Union[GivenPath, _Mapping]]] = ...) -> None: ...

class ExchangeResponse(_message.Message):
    __slots__ = ("evidence", "evidence_held", "checkpoints", "wanted", "paths")
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_HELD_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    evidence: _containers.RepeatedScalarFieldContainer[bytes]
    evidence_held: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoints: _containers.RepeatedCompositeFieldContainer[OfferedCheckpoint]
    wanted: _containers.RepeatedCompositeFieldContainer[WantedPath]
    paths: _containers.RepeatedCompositeFieldContainer[GivenPath]
    def __init__(self, evidence: _Optional[_Iterable[bytes]] = ..., evidence_held: _Optional[_Iterable[bytes]] = ..., checkpoints: _Optional[_Iterable[_Union[OfferedCheckpoint, _Mapping]]] = ..., wanted: _Optional[_Iterable[_Union[WantedPath, _Mapping]]] = ..., paths: _Optional[_Iterable[_Union[GivenPath, _Mapping]]] = ...) -> None: ...

class OfferedCheckpoint(_message.Message):
    __slots__ = ("checkpoint", "path_start_size", "consistency_path")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    PATH_START_SIZE_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_PATH_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    path_start_size: int
    consistency_path: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, checkpoint: _Optional[bytes] = ..., path_start_size: _Optional[int] = ..., consistency_path: _Optional[_Iterable[bytes]] = ...) -> None: ...

class WantedPath(_message.Message):
    __slots__ = ("origin", "start_size", "end_size")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    START_SIZE_FIELD_NUMBER: _ClassVar[int]
    END_SIZE_FIELD_NUMBER: _ClassVar[int]
    origin: str
    start_size: int
    end_size: int
    def __init__(self, origin: _Optional[str] = ..., start_size: _Optional[int] = ..., end_size: _Optional[int] = ...) -> None: ...

class GivenPath(_message.Message):
    __slots__ = ("origin", "start_size", "end_size", "hashes")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    START_SIZE_FIELD_NUMBER: _ClassVar[int]
    END_SIZE_FIELD_NUMBER: _ClassVar[int]
    HASHES_FIELD_NUMBER: _ClassVar[int]
    origin: str
    start_size: int
    end_size: int
    hashes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, origin: _Optional[str] = ..., start_size: _Optional[int] = ..., end_size: _Optional[int] = ..., hashes: _Optional[_Iterable[bytes]] = ...) -> None: ...
