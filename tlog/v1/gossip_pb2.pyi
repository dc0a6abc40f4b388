from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExchangeRequest(_message.Message):
    __slots__ = ("evidence", "evidence_held", "checkpoints")
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_HELD_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    evidence: _containers.RepeatedScalarFieldContainer[bytes]
    evidence_held: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoints: _containers.RepeatedCompositeFieldContainer[OfferedCheckpoint]
    def __init__(self, evidence: _Optional[_Iterable[bytes]] = ..., evidence_held: _Optional[_Iterable[bytes]] = ..., checkpoints: _Optional[_Iterable[_Union[OfferedCheckpoint, _Mapping]]] = ...) -> None: ...

class ExchangeResponse(_message.Message):
    __slots__ = ("evidence", "evidence_held", "checkpoints")
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_HELD_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    evidence: _containers.RepeatedScalarFieldContainer[bytes]
    evidence_held: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoints: _containers.RepeatedCompositeFieldContainer[OfferedCheckpoint]
    def __init__(self, evidence: _Optional[_Iterable[bytes]] = ..., evidence_held: _Optional[_Iterable[bytes]] = ..., checkpoints: _Optional[_Iterable[_Union[OfferedCheckpoint, _Mapping]]] = ...) -> None: ...

class OfferedCheckpoint(_message.Message):
    __slots__ = ("checkpoint", "path_start_size", "consistency_path")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    PATH_START_SIZE_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_PATH_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    path_start_size: int
    consistency_path: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, checkpoint: _Optional[bytes] = ..., path_start_size: _Optional[int] = ..., consistency_path: _Optional[_Iterable[bytes]] = ...) -> None: ...
