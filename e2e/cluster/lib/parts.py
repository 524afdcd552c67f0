"""What a cluster is made of: Go programs compiled here, each from a module that pins every version, and Debian packages."""

import fcntl
import os
import pathlib
import shutil
import subprocess
import time

import place

HERE = pathlib.Path(__file__).resolve().parent.parent
KUBERNETES = "v1.36.3"

# name: (folder under go/, package, build tags)
CONTAINERD = "github.com/containerd/containerd/v2/cmd/"
LEAN = "no_aufs,no_btrfs,no_devmapper,no_zfs"
PARTS = {
    "hyperkube": ("hyperkube", ".", ""),
    "containerd": ("containerd", CONTAINERD + "containerd", LEAN),
    "containerd-shim-runc-v2": ("containerd", CONTAINERD + "containerd-shim-runc-v2", LEAN),
    "ctr": ("containerd", CONTAINERD + "ctr", LEAN),
    "coredns": ("coredns", ".", ""),
    "helm": ("helm", "helm.sh/helm/v3/cmd/helm", ""),
    "jaeger": ("jaeger", "github.com/jaegertracing/jaeger/cmd/all-in-one", ""),
}
CONTROL_PLANE = ["hyperkube"]
NODE = ["containerd", "containerd-shim-runc-v2", "ctr", "coredns"]
# program to look for: Debian package that brings it
PACKAGES = {
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "openssl": "openssl",
    "mount": "mount",
}


def build(names):
    """Compiles what is missing, one part after the other; of two processes that miss the same, one waits."""
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise place.Problem(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    place.BIN.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (place.BIN / name).exists():
            continue
        with open(place.BIN / f".{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (place.BIN / name).exists():
                compile_part(name)
    write_kubectl()


def compile_part(name):
    if not shutil.which("go"):
        raise place.Problem("Go is not installed: it compiles the parts of a cluster (https://go.dev/dl, 1.26 or later)")
    folder, package, tags = PARTS[name]
    place.say(f"building {name}")
    began = time.monotonic()
    # Under another name until it is whole.
    unfinished = place.BIN / f".{name}"
    command = ["go", "build", "-trimpath", "-tags", tags, "-ldflags", linker_flags(name), "-o", str(unfinished), package]
    done = subprocess.run(command, cwd=HERE / "go" / folder, env={**os.environ, "CGO_ENABLED": "0"})
    if done.returncode:
        raise place.Problem(f"{name} does not build: {' '.join(command)}")
    unfinished.rename(place.BIN / name)
    place.say(f"built {name} in {time.monotonic() - began:.0f} s")


def linker_flags(name):
    flags = "-s -w"
    _, minor, _ = KUBERNETES.split(".")
    if name == "helm":
        # What `helm template` and `helm lint` take the cluster for.
        for package in ["chartutil", "lint/rules"]:
            flags += f" -X helm.sh/helm/v3/pkg/{package}.k8sVersionMinor={minor}"
    if name == "hyperkube":
        version = {"gitVersion": KUBERNETES, "gitMajor": "1", "gitMinor": minor, "gitTreeState": "clean"}
        flags += "".join(f" -X k8s.io/component-base/version.{key}={value}" for key, value in version.items())
    return flags


def write_kubectl():
    script = place.BIN / "kubectl"
    if (place.BIN / "hyperkube").exists() and not script.exists():
        script.write_text(f'#!/bin/sh\nexec "{place.BIN}/hyperkube" kubectl "$@"\n')
        script.chmod(0o755)


def install_packages():
    """Debian packages that a node needs; said, not installed, where that needs another user or system."""
    missing = sorted({package for program, package in PACKAGES.items() if not shutil.which(program, path=search_path())})
    if not missing:
        return
    if os.geteuid() or not shutil.which("apt-get"):
        raise place.Problem(f"missing: {' '.join(missing)} (names of Debian packages)")
    place.say("installing " + " ".join(missing))
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    place.sh("apt-get", "update", "-qq", timeout=300)
    place.sh("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, timeout=900, env=env)


def search_path():
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
