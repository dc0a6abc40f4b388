"""The names that programs outside this repository call: importable, with these parameters, for ever.

To add a name is free. To rename or remove one, or a parameter, breaks somebody: it takes a major version and
an entry in CHANGELOG.md.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re

import pytest

from tlog import errors

# Each parameter may be given by position and by name, in this order; whatever comes after has a default.
SIGNATURES = {
    "tlog.merkle:leaf_hash": "entry",
    "tlog.merkle:node_hash": "left right",
    "tlog.merkle:verify_inclusion": "leaf_hash leaf_index tree_size proof root_hash",
    "tlog.merkle:root_from_inclusion_proof": "leaf_hash leaf_index tree_size proof",
    "tlog.merkle:verify_consistency": "size1 size2 proof root1 root2",
    "tlog.merkle:prove_inclusion": "read_node leaf_index tree_size",
    "tlog.merkle:prove_consistency": "read_node size1 size2",
    "tlog.merkle:prove_range": "read_node start end tree_size",
    "tlog.merkle:verify_range": "leaf_hashes start tree_size left right root_hash",
    "tlog.merkle:inclusion_proofs_from_range": "leaf_hashes start tree_size left right",
    "tlog.note:Verifier.from_vkey": "vkey",
    "tlog.note:open_note": "data verifiers",
    "tlog.note:Signer.generate": "name",
    "tlog.note:Signer.from_skey": "skey",
    "tlog.note:sign_note": "text signers",
    "tlog.cosignature:CosignatureVerifier.from_vkey": "vkey",
    "tlog.checkpoint:Checkpoint": "origin tree_size root_hash extensions",
    "tlog.checkpoint:parse_checkpoint": "text",
    "tlog.checkpoint:format_checkpoint": "checkpoint",
    "tlog.tiles:Tile": "level index width",
    "tlog.tiles:parse_tile_path": "path",
    "tlog.tiles:decode_entry_bundle": "data",
    "tlog.tiles:encode_entry_bundle": "entries",
    "tlog.policy:parse_policy": "data",
    "tlog.receipt:parse_receipt": "data",
    "tlog.receipt:verify_receipt": "entry receipt policy",
    "tlog.log:Log.create": "path signer",
    "tlog.log:Log.open": "path signer",
    "tlog.log:Log.append": "self entries",
    "tlog.log:Log.checkpoint": "self",
    "tlog.log:Log.prove_inclusion": "self leaf_index",
    "tlog.log:Log.prove_consistency": "self size1",
    "tlog.log:Log.entries": "self start end",
    "tlog.log:Log.receipt": "self leaf_index",
    "tlog.cli:main": "",
    "server.program:main": "",
}

ATTRIBUTES = {
    "tlog.note:Verifier": "name key_id public_key verify",
    "tlog.note:Signer": "name key_id public_key vkey skey sign",
    "tlog.note:Note": "text signatures unverified",
    "tlog.cosignature:CosignatureVerifier": "name key_id verify timestamp_s",
    "tlog.checkpoint:Checkpoint": "origin tree_size root_hash extensions",
    "tlog.tiles:Tile": "level index width path",
    "tlog.policy:Policy": "logs witnesses groups quorum",
    "tlog.receipt:Receipt": "leaf_index proof checkpoint extra",
}

# Each exception, with what callers may rely on it being.
EXCEPTIONS = {
    "TlogError": "Exception",
    "MalformedError": "TlogError ValueError",
    "VerificationError": "TlogError",
    "ProofError": "VerificationError",
    "SignatureError": "VerificationError",
    "PolicyError": "VerificationError",
    "SplitViewError": "VerificationError",
    "StorageError": "TlogError",
    "NotFoundError": "StorageError",
    "ConflictError": "StorageError",
    "CorruptionError": "StorageError",
    "SubmitError": "TlogError",
    "PushbackError": "SubmitError",
    "RefusedError": "SubmitError",
}


def public(name: str) -> object:
    """Import what stands behind `package.module:Attribute.attribute`."""
    module, _, path = name.partition(":")
    value: object = importlib.import_module(module)
    for attribute in path.split("."):
        value = getattr(value, attribute)
    return value


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_public_function_takes_these_parameters(name: str) -> None:
    function = public(name)
    assert callable(function)
    parameters = list(inspect.signature(function).parameters.values())
    expected = SIGNATURES[name].split()
    assert [parameter.name for parameter in parameters[: len(expected)]] == expected
    for parameter in parameters[: len(expected)]:
        assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD, f"{parameter.name} in {name}"
    for parameter in parameters[len(expected) :]:
        variadic = parameter.kind in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
        assert variadic or parameter.default is not inspect.Parameter.empty, (
            f"{name} asks for {parameter.name}, which callers do not give"
        )


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_public_class_has_these_attributes(name: str) -> None:
    cls = public(name)
    assert inspect.isclass(cls)
    missing = [attribute for attribute in ATTRIBUTES[name].split() if not hasattr(cls, attribute)]
    assert not missing


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_an_exception_stands_where_callers_catch_it(name: str) -> None:
    cls = getattr(errors, name)
    for base in EXCEPTIONS[name].split():
        expected = getattr(errors, base, None) or {"Exception": Exception, "ValueError": ValueError}[base]
        assert issubclass(cls, expected)


def test_the_tree_drawn_in_the_docstring_is_the_tree_in_the_code() -> None:
    drawn: dict[str, str] = {}
    ancestors = ["TlogError"]
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│ ]*)[├└]── (\w+)", line)
        if match:
            depth = 1 + (len(match[1]) + 3) // 4
            ancestors[depth:] = [match[2]]
            drawn[match[2]] = ancestors[depth - 1]
    actual = {
        name: cls.__bases__[0].__name__
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, errors.TlogError) and cls is not errors.TlogError
    }
    assert drawn == actual


def test_the_root_of_the_empty_tree_is_public() -> None:
    assert public("tlog.merkle:EMPTY_ROOT") == hashlib.sha256(b"").digest()


def test_the_exit_codes_are_those_that_scripts_rely_on() -> None:
    exit_codes = public("tlog.exit_codes:ExitCode")
    assert isinstance(exit_codes, type)
    assert {code.name: code.value for code in exit_codes} == {
        "OK": 0,
        "VERIFICATION_FAILED": 1,
        "USAGE": 2,
        "IO_OR_REMOTE": 3,
        "SOFTWARE": 70,
        "INTERRUPTED": 130,
    }
