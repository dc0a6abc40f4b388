from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AppendStage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APPEND_STAGE_UNSPECIFIED: _ClassVar[AppendStage]
    APPEND_STAGE_INTEGRATED: _ClassVar[AppendStage]
    APPEND_STAGE_COSIGNED: _ClassVar[AppendStage]

class RefusalReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REFUSAL_REASON_UNSPECIFIED: _ClassVar[RefusalReason]
    REFUSAL_REASON_MALFORMED_ENVELOPE: _ClassVar[RefusalReason]
    REFUSAL_REASON_MALFORMED_EVENT: _ClassVar[RefusalReason]
    REFUSAL_REASON_TOO_LARGE: _ClassVar[RefusalReason]
    REFUSAL_REASON_WRONG_ORIGIN: _ClassVar[RefusalReason]
    REFUSAL_REASON_BAD_SIGNATURE: _ClassVar[RefusalReason]
    REFUSAL_REASON_WRONG_SIGNATURE_COUNT: _ClassVar[RefusalReason]
    REFUSAL_REASON_UNKNOWN_KEY: _ClassVar[RefusalReason]
    REFUSAL_REASON_REVOKED_KEY: _ClassVar[RefusalReason]
    REFUSAL_REASON_KEY_OF_ANOTHER_MEMBER: _ClassVar[RefusalReason]
    REFUSAL_REASON_UNKNOWN_SOURCE: _ClassVar[RefusalReason]
    REFUSAL_REASON_MEMBER_NOT_ACTIVE: _ClassVar[RefusalReason]
    REFUSAL_REASON_TYPE_NOT_ALLOWED: _ClassVar[RefusalReason]
    REFUSAL_REASON_GOVERNANCE_REFUSED: _ClassVar[RefusalReason]
    REFUSAL_REASON_SOURCE_ID_CONFLICT: _ClassVar[RefusalReason]
    REFUSAL_REASON_LOG_FROZEN: _ClassVar[RefusalReason]
APPEND_STAGE_UNSPECIFIED: AppendStage
APPEND_STAGE_INTEGRATED: AppendStage
APPEND_STAGE_COSIGNED: AppendStage
REFUSAL_REASON_UNSPECIFIED: RefusalReason
REFUSAL_REASON_MALFORMED_ENVELOPE: RefusalReason
REFUSAL_REASON_MALFORMED_EVENT: RefusalReason
REFUSAL_REASON_TOO_LARGE: RefusalReason
REFUSAL_REASON_WRONG_ORIGIN: RefusalReason
REFUSAL_REASON_BAD_SIGNATURE: RefusalReason
REFUSAL_REASON_WRONG_SIGNATURE_COUNT: RefusalReason
REFUSAL_REASON_UNKNOWN_KEY: RefusalReason
REFUSAL_REASON_REVOKED_KEY: RefusalReason
REFUSAL_REASON_KEY_OF_ANOTHER_MEMBER: RefusalReason
REFUSAL_REASON_UNKNOWN_SOURCE: RefusalReason
REFUSAL_REASON_MEMBER_NOT_ACTIVE: RefusalReason
REFUSAL_REASON_TYPE_NOT_ALLOWED: RefusalReason
REFUSAL_REASON_GOVERNANCE_REFUSED: RefusalReason
REFUSAL_REASON_SOURCE_ID_CONFLICT: RefusalReason
REFUSAL_REASON_LOG_FROZEN: RefusalReason

class AppendRequest(_message.Message):
    __slots__ = ("entries", "trusted_tree_size", "wait_for")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    TRUSTED_TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedScalarFieldContainer[bytes]
    trusted_tree_size: int
    wait_for: AppendStage
    def __init__(self, entries: _Optional[_Iterable[bytes]] = ..., trusted_tree_size: _Optional[int] = ..., wait_for: _Optional[_Union[AppendStage, str]] = ...) -> None: ...

class AppendResponse(_message.Message):
    __slots__ = ("results", "checkpoint", "range_proof", "inclusion_proofs", "consistency_proof")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    RANGE_PROOF_FIELD_NUMBER: _ClassVar[int]
    INCLUSION_PROOFS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_PROOF_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[AppendResult]
    checkpoint: bytes
    range_proof: RangeProof
    inclusion_proofs: _containers.RepeatedCompositeFieldContainer[InclusionProof]
    consistency_proof: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, results: _Optional[_Iterable[_Union[AppendResult, _Mapping]]] = ..., checkpoint: _Optional[bytes] = ..., range_proof: _Optional[_Union[RangeProof, _Mapping]] = ..., inclusion_proofs: _Optional[_Iterable[_Union[InclusionProof, _Mapping]]] = ..., consistency_proof: _Optional[_Iterable[bytes]] = ...) -> None: ...

class AppendResult(_message.Message):
    __slots__ = ("leaf_index", "already_present")
    LEAF_INDEX_FIELD_NUMBER: _ClassVar[int]
    ALREADY_PRESENT_FIELD_NUMBER: _ClassVar[int]
    leaf_index: int
    already_present: bool
    def __init__(self, leaf_index: _Optional[int] = ..., already_present: bool = ...) -> None: ...

class RangeProof(_message.Message):
    __slots__ = ("start", "end", "left", "right")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    left: _containers.RepeatedScalarFieldContainer[bytes]
    right: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ..., left: _Optional[_Iterable[bytes]] = ..., right: _Optional[_Iterable[bytes]] = ...) -> None: ...

class InclusionProof(_message.Message):
    __slots__ = ("leaf_index", "hashes")
    LEAF_INDEX_FIELD_NUMBER: _ClassVar[int]
    HASHES_FIELD_NUMBER: _ClassVar[int]
    leaf_index: int
    hashes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, leaf_index: _Optional[int] = ..., hashes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class AppendRefusal(_message.Message):
    __slots__ = ("refusals", "other_positions", "other_reasons")
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    OTHER_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    OTHER_REASONS_FIELD_NUMBER: _ClassVar[int]
    refusals: _containers.RepeatedCompositeFieldContainer[EntryRefusal]
    other_positions: _containers.RepeatedScalarFieldContainer[int]
    other_reasons: _containers.RepeatedScalarFieldContainer[RefusalReason]
    def __init__(self, refusals: _Optional[_Iterable[_Union[EntryRefusal, _Mapping]]] = ..., other_positions: _Optional[_Iterable[int]] = ..., other_reasons: _Optional[_Iterable[_Union[RefusalReason, str]]] = ...) -> None: ...

class EntryRefusal(_message.Message):
    __slots__ = ("position", "reason", "message", "existing_leaf_index")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    EXISTING_LEAF_INDEX_FIELD_NUMBER: _ClassVar[int]
    position: int
    reason: RefusalReason
    message: str
    existing_leaf_index: int
    def __init__(self, position: _Optional[int] = ..., reason: _Optional[_Union[RefusalReason, str]] = ..., message: _Optional[str] = ..., existing_leaf_index: _Optional[int] = ...) -> None: ...

class GetCheckpointRequest(_message.Message):
    __slots__ = ("trusted_tree_size",)
    TRUSTED_TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    trusted_tree_size: int
    def __init__(self, trusted_tree_size: _Optional[int] = ...) -> None: ...

class GetCheckpointResponse(_message.Message):
    __slots__ = ("checkpoint", "consistency_proof", "frozen")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_PROOF_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    consistency_proof: _containers.RepeatedScalarFieldContainer[bytes]
    frozen: bool
    def __init__(self, checkpoint: _Optional[bytes] = ..., consistency_proof: _Optional[_Iterable[bytes]] = ..., frozen: bool = ...) -> None: ...

class WatchCheckpointsRequest(_message.Message):
    __slots__ = ("trusted_tree_size",)
    TRUSTED_TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    trusted_tree_size: int
    def __init__(self, trusted_tree_size: _Optional[int] = ...) -> None: ...

class WatchCheckpointsResponse(_message.Message):
    __slots__ = ("checkpoint", "consistency_proof")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_PROOF_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    consistency_proof: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, checkpoint: _Optional[bytes] = ..., consistency_proof: _Optional[_Iterable[bytes]] = ...) -> None: ...

class EntryKey(_message.Message):
    __slots__ = ("leaf_index", "source_id")
    LEAF_INDEX_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    leaf_index: int
    source_id: SourceId
    def __init__(self, leaf_index: _Optional[int] = ..., source_id: _Optional[_Union[SourceId, _Mapping]] = ...) -> None: ...

class SourceId(_message.Message):
    __slots__ = ("source", "id")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    source: str
    id: str
    def __init__(self, source: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class GetInclusionProofsRequest(_message.Message):
    __slots__ = ("keys", "tree_size", "trusted_tree_size")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    TRUSTED_TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[EntryKey]
    tree_size: int
    trusted_tree_size: int
    def __init__(self, keys: _Optional[_Iterable[_Union[EntryKey, _Mapping]]] = ..., tree_size: _Optional[int] = ..., trusted_tree_size: _Optional[int] = ...) -> None: ...

class GetInclusionProofsResponse(_message.Message):
    __slots__ = ("results", "checkpoint", "consistency_proof")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_PROOF_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[InclusionResult]
    checkpoint: bytes
    consistency_proof: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, results: _Optional[_Iterable[_Union[InclusionResult, _Mapping]]] = ..., checkpoint: _Optional[bytes] = ..., consistency_proof: _Optional[_Iterable[bytes]] = ...) -> None: ...

class InclusionResult(_message.Message):
    __slots__ = ("proof",)
    PROOF_FIELD_NUMBER: _ClassVar[int]
    proof: InclusionProof
    def __init__(self, proof: _Optional[_Union[InclusionProof, _Mapping]] = ...) -> None: ...

class GetConsistencyProofRequest(_message.Message):
    __slots__ = ("first_tree_size", "second_tree_size")
    FIRST_TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    SECOND_TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    first_tree_size: int
    second_tree_size: int
    def __init__(self, first_tree_size: _Optional[int] = ..., second_tree_size: _Optional[int] = ...) -> None: ...

class GetConsistencyProofResponse(_message.Message):
    __slots__ = ("hashes",)
    HASHES_FIELD_NUMBER: _ClassVar[int]
    hashes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, hashes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class GetEntriesRequest(_message.Message):
    __slots__ = ("start", "end", "trusted_tree_size")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    TRUSTED_TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    trusted_tree_size: int
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ..., trusted_tree_size: _Optional[int] = ...) -> None: ...

class GetEntriesResponse(_message.Message):
    __slots__ = ("entries", "range_proof", "checkpoint", "consistency_proof")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    RANGE_PROOF_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_PROOF_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedScalarFieldContainer[bytes]
    range_proof: RangeProof
    checkpoint: bytes
    consistency_proof: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, entries: _Optional[_Iterable[bytes]] = ..., range_proof: _Optional[_Union[RangeProof, _Mapping]] = ..., checkpoint: _Optional[bytes] = ..., consistency_proof: _Optional[_Iterable[bytes]] = ...) -> None: ...

class GetReceiptsRequest(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[EntryKey]
    def __init__(self, keys: _Optional[_Iterable[_Union[EntryKey, _Mapping]]] = ...) -> None: ...

class GetReceiptsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ReceiptResult]
    def __init__(self, results: _Optional[_Iterable[_Union[ReceiptResult, _Mapping]]] = ...) -> None: ...

class ReceiptResult(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: bytes
    def __init__(self, receipt: _Optional[bytes] = ...) -> None: ...

class LookupRequest(_message.Message):
    __slots__ = ("business_key", "start", "limit", "trusted_tree_size")
    BUSINESS_KEY_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    TRUSTED_TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    business_key: str
    start: int
    limit: int
    trusted_tree_size: int
    def __init__(self, business_key: _Optional[str] = ..., start: _Optional[int] = ..., limit: _Optional[int] = ..., trusted_tree_size: _Optional[int] = ...) -> None: ...

class LookupResponse(_message.Message):
    __slots__ = ("found", "next_start", "checkpoint", "consistency_proof")
    FOUND_FIELD_NUMBER: _ClassVar[int]
    NEXT_START_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_PROOF_FIELD_NUMBER: _ClassVar[int]
    found: _containers.RepeatedCompositeFieldContainer[FoundEntry]
    next_start: int
    checkpoint: bytes
    consistency_proof: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, found: _Optional[_Iterable[_Union[FoundEntry, _Mapping]]] = ..., next_start: _Optional[int] = ..., checkpoint: _Optional[bytes] = ..., consistency_proof: _Optional[_Iterable[bytes]] = ...) -> None: ...

class FoundEntry(_message.Message):
    __slots__ = ("entry", "inclusion_proof")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    INCLUSION_PROOF_FIELD_NUMBER: _ClassVar[int]
    entry: bytes
    inclusion_proof: InclusionProof
    def __init__(self, entry: _Optional[bytes] = ..., inclusion_proof: _Optional[_Union[InclusionProof, _Mapping]] = ...) -> None: ...
