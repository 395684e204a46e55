"""``keras-transfer serve``."""

from __future__ import annotations

import click

from keras_transfer.cli.kit import prepare


@click.command()
@click.argument("bundle")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0: every one."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one."
)
@click.option(
    "--litertjs",
    metavar="FOLDER|URL",
    help="Where LiteRT.js is: node_modules, or an https:// address (default: node_modules here).",
)
def serve(bundle: str, host: str, port: int, litertjs: str | None) -> None:
    """Open BUNDLE in a browser: photos, the camera, and the golden images as a proof.

    The models run in the browser, on LiteRT.js (npm install @litertjs/core@2.5.3). Only this machine can reach the
    page, unless --host says otherwise. bundle.json, the files it lists and LiteRT.js are given out, and nothing else.
    Ctrl-C ends it.
    """
    prepare(tensorflow=False)
    from keras_transfer.workflow.serve import addresses
    from keras_transfer.workflow.serve import serve as server_of

    server = server_of(bundle, host=host, port=port, litertjs=litertjs)
    try:
        first, *others = addresses(server)
        click.echo(f"The page: {first} (Ctrl-C ends this)")
        if not server.loopback:
            also = f" Also: {' '.join(others)}" if others else ""
            click.echo(
                f"Everyone who can reach {'this machine' if others else host} on port {server.server_port} can open it "
                f"and read the bundle's files, the golden images among them.{also}"
            )
        server.serve_forever()
    except KeyboardInterrupt:
        click.echo("\nStopped.")
    finally:
        server.server_close()
