// Mercure's hub as a program of its own: no Caddy, no history, anonymous subscribers; publishers need the key's token.
package main

import (
	"log"
	"net/http"
	"os"
	"time"

	"github.com/dunglas/mercure"
)

func main() {
	hub, err := mercure.NewHub(
		mercure.WithAnonymous(),
		mercure.WithPublisherJWT([]byte(os.Args[2]), "HS256"),
		mercure.WithHeartbeat(10*time.Minute),
		mercure.WithWriteTimeout(0),
	)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(os.Args[1], hub))
}
