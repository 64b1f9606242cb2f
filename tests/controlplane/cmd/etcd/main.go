// The etcd of the tests: the embed package behind those flags of a released etcd which the
// fixture uses, so that a binary of KUBEBUILDER_ASSETS can stand in its place.
package main

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

func fail(err error) {
	fmt.Fprintln(os.Stderr, "etcd:", err)
	os.Exit(1)
}

func address(text string) url.URL {
	parsed, err := url.Parse(text)
	if err != nil {
		fail(err)
	}
	return *parsed
}

func main() {
	directory := flag.String("data-dir", "", "directory of the store")
	client := flag.String("listen-client-urls", "http://127.0.0.1:2379", "address for the API server")
	advertised := flag.String("advertise-client-urls", "http://127.0.0.1:2379", "the same, as told to clients")
	peer := flag.String("listen-peer-urls", "http://127.0.0.1:0", "address for other members")
	unsafe := flag.Bool("unsafe-no-fsync", false, "do not wait for the disk")
	flag.Parse()

	settings := embed.NewConfig()
	settings.Name = "default"
	settings.Dir = *directory
	settings.UnsafeNoFsync = *unsafe
	settings.LogLevel = "warn"
	// As in a released etcd; 0, which embed leaves here, warns of every request.
	settings.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	settings.ListenClientUrls = []url.URL{address(*client)}
	settings.AdvertiseClientUrls = []url.URL{address(*advertised)}
	settings.ListenPeerUrls = []url.URL{address(*peer)}
	settings.AdvertisePeerUrls = settings.ListenPeerUrls
	settings.InitialCluster = settings.InitialClusterFromName(settings.Name)

	server, err := embed.StartEtcd(settings)
	if err != nil {
		fail(err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM)
	select {
	case <-ended:
		server.Close()
	case err := <-server.Err():
		fail(err)
	}
}
