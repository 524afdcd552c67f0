// Command hyperkube is every part of a Kubernetes control plane and node that is a Go program, in one binary: the first
// argument says which. One binary links their common code once, which makes it quicker to build and smaller.
package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"sort"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var parts = map[string]func() *cobra.Command{
	"etcd":                    etcdCommand,
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllers.NewControllerManagerCommand,
	"kube-proxy":              proxy.NewProxyCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
}

func main() {
	part, known := (func() *cobra.Command)(nil), false
	if len(os.Args) > 1 {
		part, known = parts[os.Args[1]]
	}
	if !known {
		fmt.Fprintln(os.Stderr, "usage: hyperkube "+strings.Join(names(), "|")+" ...")
		os.Exit(2)
	}
	os.Args = os.Args[1:]
	os.Exit(cli.Run(part()))
}

func names() []string {
	var all []string
	for name := range parts {
		all = append(all, name)
	}
	sort.Strings(all)
	return all
}

// etcdCommand is a store of one member that never syncs to disk: it lives no longer than the cluster.
func etcdCommand() *cobra.Command {
	config := embed.NewConfig()
	config.LogLevel = "error"
	config.UnsafeNoFsync = true
	var client, peer string
	command := &cobra.Command{Use: "etcd", RunE: func(*cobra.Command, []string) error {
		if err := listenOn(config, client, peer); err != nil {
			return err
		}
		return runEtcd(config)
	}}
	command.Flags().StringVar(&config.Dir, "data-dir", "", "folder of the data")
	command.Flags().StringVar(&client, "client-url", "http://127.0.0.1:2379", "where clients come")
	command.Flags().StringVar(&peer, "peer-url", "http://127.0.0.1:2380", "where other members would come")
	return command
}

func listenOn(config *embed.Config, client, peer string) error {
	clients, err := url.Parse(client)
	if err != nil {
		return err
	}
	peers, err := url.Parse(peer)
	if err != nil {
		return err
	}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*clients}, []url.URL{*clients}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peers}, []url.URL{*peers}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	return nil
}

func runEtcd(config *embed.Config) error {
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer server.Close()
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-told:
		return nil
	case err := <-server.Err():
		return err
	}
}
