"""The control plane: certificates, etcd, kube-apiserver, kube-controller-manager, kube-scheduler."""

import json
import ssl
import urllib.request

import place

SERVICES, KUBERNETES_SERVICE = "10.96.0.0/16", "10.96.0.1"
PROCESSES = ["scheduler", "controller-manager", "apiserver", "etcd"]


def start(here, advertised):
    """`advertised`: the address by which pods reach the API server; without one only this machine does."""
    certificates(here, advertised)
    hyperkube = place.BIN / "hyperkube"
    store = f"http://127.0.0.1:{here.etcd}"
    here.start("etcd", hyperkube, "etcd", "--data-dir", here.folder / "etcd", "--client-url", store,
               "--peer-url", f"http://127.0.0.1:{here.peer}")
    here.start("apiserver", hyperkube, "kube-apiserver", f"--etcd-servers={store}", *api_server_flags(here, advertised))
    here.wait("kube-apiserver", lambda: answers(here))
    as_admin = [f"--{of}kubeconfig=admin.kubeconfig" for of in ("", "authentication-", "authorization-")]
    here.start("controller-manager", hyperkube, "kube-controller-manager", *as_admin, *CONTROLLER_MANAGER)
    if advertised:
        here.start("scheduler", hyperkube, "kube-scheduler", *as_admin, "--leader-elect=false", "--secure-port=0")
    here.wait("the first service account", lambda: here.kubectl("get", "serviceaccount", "default").returncode == 0)


CONTROLLER_MANAGER = [
    "--leader-elect=false", "--secure-port=0", "--use-service-account-credentials=true", "--root-ca-file=ca.crt",
    "--service-account-private-key-file=accounts.key",
    "--cluster-signing-cert-file=ca.crt", "--cluster-signing-key-file=ca.key",
]


def api_server_flags(here, advertised):
    where = ["--bind-address=0.0.0.0", f"--advertise-address={advertised}"] if advertised else ["--bind-address=127.0.0.1"]
    return [
        *where, f"--secure-port={here.api}", f"--service-cluster-ip-range={SERVICES}", "--allow-privileged=true",
        "--authorization-mode=Node,RBAC", "--client-ca-file=ca.crt",
        "--tls-cert-file=apiserver.crt", "--tls-private-key-file=apiserver.key",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--service-account-key-file=accounts.key", "--service-account-signing-key-file=accounts.key",
        "--kubelet-preferred-address-types=InternalIP", "--kubelet-certificate-authority=ca.crt",
        "--kubelet-client-certificate=admin.crt", "--kubelet-client-key=admin.key",
    ]


def answers(here):
    trust = ssl.create_default_context(cafile=here.folder / "ca.crt")
    with urllib.request.urlopen(f"https://127.0.0.1:{here.api}/readyz", context=trust, timeout=2) as answer:
        return answer.read() == b"ok"


def stop(here):
    # Nothing in a tied place is wanted afterwards.
    for name in PROCESSES:
        here.stop(name, patience=0 if here.tied else 3)


def certificates(here, advertised):
    """An authority, and what it signs: the API server, the administrator, the node."""
    def openssl(*arguments):
        place.sh("openssl", *arguments, cwd=here.folder)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("genrsa", "-out", "accounts.key", "2048")
    openssl("req", "-x509", *key, "-days", "30", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=weft-cluster")
    own = f",IP:{advertised}" if advertised else ""
    names = ",".join(f"DNS:{n}" for n in ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"))
    for name, subject, alternatives in (
        ("apiserver", "/CN=kube-apiserver", f"{names},IP:127.0.0.1,IP:{KUBERNETES_SERVICE}{own}"),
        ("admin", "/O=system:masters/CN=admin", "DNS:admin"),
        ("kubelet", "/O=system:nodes/CN=system:node:node", f"DNS:node,IP:127.0.0.1{own}"),
    ):
        (here.folder / "extensions").write_text(f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth,clientAuth\n")
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "30", "-out", f"{name}.crt", "-extfile", "extensions")
    for user in ("admin", "kubelet"):
        (here.folder / f"{user}.kubeconfig").write_text(json.dumps(kubeconfig(here, user), indent=1))


def kubeconfig(here, user):
    cluster = {"server": f"https://127.0.0.1:{here.api}", "certificate-authority": f"{here.folder}/ca.crt"}
    credentials = {"client-certificate": f"{here.folder}/{user}.crt", "client-key": f"{here.folder}/{user}.key"}
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": "weft",
        "clusters": [{"name": "weft", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "weft", "context": {"cluster": "weft", "user": user}}],
    }
