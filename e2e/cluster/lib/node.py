"""The node: a bridge for pods, containerd, kubelet, kube-proxy, CoreDNS."""

import json
import os
import pathlib
import subprocess

import image
import parts
import place

BRIDGE, ADDRESS, PODS = "weftcni0", "10.244.0.1", "10.244.0.0/24"
DNS = "10.96.0.10"
# The file that says: this place has, or had, a node.
MARK = "node"
PAUSE = "localhost/weft-pause:1"
HERE = pathlib.Path(__file__).resolve().parent.parent
# A machine on which tests are compiled may be nearly full.
EVICTION = {"memory.available": "100Mi", "nodefs.available": "100Mi", "imagefs.available": "100Mi", "nodefs.inodesFree": "1%"}


def prepare(here):
    """What must be there before the API server: it advertises the bridge's address."""
    if os.geteuid():
        raise place.Problem("a node needs root; `--no-node` does not")
    (here.folder / MARK).touch()
    parts.install_packages()
    os.environ["PATH"] = f"{place.BIN}:{parts.search_path()}"
    place.sh("ip", "link", "add", BRIDGE, "type", "bridge")
    place.sh("ip", "addr", "add", f"{ADDRESS}/24", "dev", BRIDGE)
    place.sh("ip", "link", "set", BRIDGE, "up")
    pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def start(here):
    start_containerd(here)
    start_kubelet(here)
    start_services(here)
    start_dns(here)
    here.wait("the node", lambda: node_is_ready(here))


def start_containerd(here):
    (here.folder / "cni").mkdir()
    (here.folder / "cni/10-weft.conflist").write_text(json.dumps(network(here)))
    (here.folder / "containerd.toml").write_text(CONTAINERD.format(folder=here.folder, pause=PAUSE))
    here.start("containerd", place.BIN / "containerd", "-c", here.folder / "containerd.toml")
    here.wait("containerd", lambda: ctr(here, "version").returncode == 0)
    load(here, [pause_image()])


CONTAINERD = """version = 3
root = "{folder}/containerd"
state = "{folder}/containerd-state"
[grpc]
  address = "{folder}/containerd.sock"
[ttrpc]
  address = "{folder}/containerd.sock.ttrpc"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni", "/opt/cni/bin"]
  conf_dir = "{folder}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"""


def network(here):
    addresses = {"type": "host-local", "dataDir": f"{here.folder}/addresses", "ranges": [[{"subnet": PODS}]],
                 "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "hairpinMode": True, "ipMasq": False, "ipam": addresses}
    return {"cniVersion": "1.0.0", "name": "weft", "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]}


def pause_image():
    """The image of a pod's first process: one Go program, packed as the archive that `docker save` writes."""
    archive = place.ROOT / "weft-pause.tar"
    if not archive.exists():
        folder = HERE / "go/pause"
        program = place.ROOT / "pause"
        place.sh("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, ".", cwd=folder,
                 env={**os.environ, "CGO_ENABLED": "0"}, timeout=600)
        image.pack(program, "pause", PAUSE, archive)
        program.unlink()
    return archive


def load(here, files):
    for file in files:
        if not pathlib.Path(file).is_file():
            raise place.Problem(f"{file}: no such file")
        done = ctr(here, "images", "import", "--local", str(file), timeout=120)
        if done.returncode:
            raise place.Problem(f"{file}: {done.stderr.strip()}")


def ctr(here, *arguments, timeout=20):
    command = [place.BIN / "ctr", "-a", here.folder / "containerd.sock", "-n", "k8s.io", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def start_kubelet(here):
    (here.folder / "resolv.conf").write_text("")
    (here.folder / "kubelet.json").write_text(json.dumps(kubelet(here)))
    here.start("kubelet", place.BIN / "hyperkube", "kubelet", f"--config={here.folder}/kubelet.json",
               f"--kubeconfig={here.folder}/kubelet.kubeconfig", f"--root-dir={here.folder}/kubelet",
               f"--cert-dir={here.folder}/kubelet-pki", "--hostname-override=node", f"--node-ip={ADDRESS}")


def kubelet(here):
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{here.folder}/containerd.sock",
        "cgroupDriver": "cgroupfs", "failSwapOn": False, "failCgroupV1": False, "enforceNodeAllocatable": [],
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                           "x509": {"clientCAFile": f"{here.folder}/ca.crt"}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{here.folder}/kubelet.crt", "tlsPrivateKeyFile": f"{here.folder}/kubelet.key",
        "clusterDNS": [DNS], "clusterDomain": "cluster.local", "resolvConf": f"{here.folder}/resolv.conf",
        "evictionHard": EVICTION, "evictionPressureTransitionPeriod": "10s", "imageGCHighThresholdPercent": 100, "maxPods": 110, "syncFrequency": "10s",
        "volumePluginDir": f"{here.folder}/volume-plugins",
    }


def start_services(here):
    """kube-proxy. It leaves the machine's limits of tracked connections as they are."""
    unlimited = [f"--conntrack-{of}=0" for of in ("max-per-core", "tcp-timeout-established", "tcp-timeout-close-wait")]
    here.start("proxy", place.BIN / "hyperkube", "kube-proxy", f"--kubeconfig={here.folder}/admin.kubeconfig",
               "--hostname-override=node", "--proxy-mode=iptables", "--cluster-cidr=10.244.0.0/16",
               "--metrics-bind-address=127.0.0.1:20249", "--healthz-bind-address=127.0.0.1:20256", *unlimited)


def start_dns(here):
    """CoreDNS as a process of the machine, behind the Service that pods ask."""
    (here.folder / "Corefile").write_text(
        f".:53 {{\n bind {ADDRESS}\n errors\n kubernetes cluster.local in-addr.arpa {{\n"
        f"  kubeconfig {here.folder}/admin.kubeconfig weft\n  pods insecure\n }}\n}}\n")
    here.start("coredns", place.BIN / "coredns", "-conf", here.folder / "Corefile")
    ports = [{"name": name, "protocol": protocol, "port": 53} for name, protocol in (("dns", "UDP"), ("dns-tcp", "TCP"))]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kube-dns", "namespace": "kube-system"},
               "spec": {"clusterIP": DNS, "ports": ports}}
    labels = {"kubernetes.io/service-name": "kube-dns"}
    endpoints = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                 "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
                 "endpoints": [{"addresses": [ADDRESS]}], "ports": ports}
    done = here.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [service, endpoints]}))
    if done.returncode:
        raise place.Problem(f"kube-dns: {done.stderr.strip()}")


def node_is_ready(here):
    ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    return here.kubectl("get", "node", "node", "-o", ready).stdout == "True"


def stop_pods(here):
    """The kubelet first, else it starts again what is stopped; then every container."""
    for name in ("kubelet", "proxy", "coredns"):
        here.stop(name)
    if not (here.folder / MARK).exists():
        return
    for shim in shims(here):
        for pid in [*descendants(shim), shim]:
            place.signalled(pid, 9)


def shims(here):
    """The parents of containers, which outlive containerd."""
    address = str(here.folder / "containerd.sock").encode()
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"containerd-shim-runc-v2") and address in words:
            yield int(process.name)


def descendants(pid):
    try:
        text = "".join(f.read_text() for f in pathlib.Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:
        return []
    children = [int(word) for word in text.split()]
    return [d for child in children for d in [*descendants(child), child]]


def stop(here):
    if not (here.folder / MARK).exists():
        return
    here.stop("containerd")
    for line in reversed(pathlib.Path("/proc/mounts").read_text().splitlines()):
        where = line.split()[1]
        if where.startswith(f"{here.folder}/"):
            subprocess.run(["umount", "-l", where], capture_output=True)
    subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)
    forget_rules()


def forget_rules():
    """Takes kube-proxy's and the kubelet's chains out of iptables, and leaves everybody else's. A table in which nothing
    is left goes too: every packet of the machine would still pass it."""
    for family in ("ip", "ip6"):
        saved = subprocess.run([f"{family}tables-save"], capture_output=True, text=True).stdout
        kept = [line for line in saved.splitlines() if "KUBE-" not in line and "CNI-" not in line]
        restored = "".join(line + "\n" for line in kept)
        subprocess.run([f"{family}tables-restore"], input=restored, text=True, capture_output=True)
        for table in empty_tables(kept):
            subprocess.run(["nft", "delete", "table", family, table], capture_output=True)


def empty_tables(saved):
    """The tables, of what iptables-save says, that have no rule and no chain but those that accept everything."""
    empty, table = [], None
    for line in saved:
        if line.startswith("*"):
            table = line[1:]
            empty.append(table)
        elif table in empty and (line.startswith("-A") or (line.startswith(":") and " ACCEPT " not in line)):
            empty.remove(table)
    return empty
