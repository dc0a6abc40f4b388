"""`tlog certs`: an authority and certificates for development, so that TLS can be tried at once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlog.cli.files import make_directory
from tlog.cli.new_directory import new_directory
from tlog.cli.options import JsonOption
from tlog.cli.report import remark, say_document, say_facts

if TYPE_CHECKING:
    from tlog.certificates import CertificateFiles

WARNING = (
    "for development only: the authority's key lies beside it, unencrypted, and nothing is ever revoked; in "
    "production use an authority that somebody runs"
)

certs = typer.Typer(
    no_args_is_help=True, help="Make an authority and certificates for development. Not for production."
)

DirectoryArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the authority.")]
DaysOption = Annotated[int, typer.Option("--days", min=1, max=3_650, help="How long it is valid.")]


@certs.command("init")
def init(
    *,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory; it is made if need be.")],
    name: Annotated[str, typer.Option("--name", help="What the authority is called.")] = "tlog development",
    days: DaysOption = 365,
    as_json: JsonOption = False,
) -> None:
    """Make an authority for development: ca.crt, which everybody gets, and ca.key, which nobody gets."""
    from tlog.certificates import CertificateFiles, make_authority

    now = datetime.now(UTC)
    if directory.is_dir():
        made = make_authority(directory, name=name, now=now, days=days)
    else:
        make_directory(directory.absolute().parent)
        with new_directory(directory) as building:
            built = make_authority(building, name=name, now=now, days=days)
        made = CertificateFiles(
            certificate=directory / built.certificate.name, key=directory / built.key.name
        )
    _tell(made, as_json=as_json)


@certs.command("server")
def server(
    *,
    directory: DirectoryArgument,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name", help="Host name or IP address that it is reached by; once for each.", show_default=False
        ),
    ] = None,
    file_name: Annotated[str, typer.Option("--out", help="Name of the files, without ending.")] = "server",
    days: DaysOption = 90,
    as_json: JsonOption = False,
) -> None:
    """Make a server's certificate and key; without --name it is for localhost, 127.0.0.1 and ::1."""
    from tlog.certificates import make_server_certificate

    made = make_server_certificate(
        directory,
        file_name,
        names=names or ("localhost", "127.0.0.1", "::1"),
        now=datetime.now(UTC),
        days=days,
    )
    _tell(made, as_json=as_json)


@certs.command("client")
def client(
    *,
    directory: DirectoryArgument,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            help="A source that a member registered: who shows the certificate reads as that member. Without "
            "it nobody's, such as a monitor's or Prometheus's.",
            show_default=False,
        ),
    ] = None,
    file_name: Annotated[str, typer.Option("--out", help="Name of the files, without ending.")] = "client",
    days: DaysOption = 90,
    as_json: JsonOption = False,
) -> None:
    """Make a caller's certificate and key."""
    from tlog.certificates import make_client_certificate

    made = make_client_certificate(
        directory, file_name, sources=sources or (), now=datetime.now(UTC), days=days
    )
    _tell(made, as_json=as_json)


def _tell(files: CertificateFiles, *, as_json: bool) -> None:
    remark(WARNING)
    facts = {"certificate": str(files.certificate), "key": str(files.key)}
    if as_json:
        say_document(facts)
        return
    say_facts(facts)
