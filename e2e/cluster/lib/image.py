"""An image of one program, written without a builder: the archive that `docker save` would write."""

import hashlib
import io
import json
import tarfile


def pack(program, name, tag, out):
    """Writes the archive `out` of an image `tag` that has the file `program` as /`name`, and runs it."""
    layer = archive({name: (program.read_bytes(), 0o755)})
    config = json.dumps({
        "architecture": architecture(program), "os": "linux",
        "config": {"Entrypoint": [f"/{name}"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]).encode()
    files = {"manifest.json": manifest, "config.json": config, "layer.tar": layer}
    out.write_bytes(archive({path: (content, 0o644) for path, content in files.items()}))


def archive(files):
    """A tar of files, the same bytes each time."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, (content, mode) in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def architecture(program):
    """What the program's ELF header says."""
    with open(program, "rb") as file:
        machine = int.from_bytes(file.read(20)[18:20], "little")
    return {62: "amd64", 183: "arm64"}.get(machine, "amd64")
