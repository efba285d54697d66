// Dex, an OpenID provider, with two clients and two users in memory.
//
// dex LISTEN REDIRECT_URI: the clients `shop-api` and `other-api` have the secret `secret`; the users are
// u1@example.com and u2@example.com, and the password of both is `password`.
package main

import (
	"context"
	"log"
	"net/http"
	"os"

	"github.com/dexidp/dex/server"
	"github.com/dexidp/dex/storage"
	"github.com/dexidp/dex/storage/memory"
	"github.com/dexidp/dex/web"
	"github.com/sirupsen/logrus"
	"golang.org/x/crypto/bcrypt"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: dex LISTEN REDIRECT_URI")
	}
	listen, redirect := os.Args[1], os.Args[2]
	logger := logrus.New()
	hash, err := bcrypt.GenerateFromPassword([]byte("password"), bcrypt.DefaultCost)
	if err != nil {
		log.Fatal(err)
	}
	user := func(name string) storage.Password {
		return storage.Password{Email: name + "@example.com", Hash: hash, Username: name, UserID: name}
	}
	client := func(id string) storage.Client {
		return storage.Client{ID: id, Secret: "secret", Name: id, RedirectURIs: []string{redirect}}
	}
	state := memory.New(logger)
	state = storage.WithStaticClients(state, []storage.Client{client("shop-api"), client("other-api")})
	state = storage.WithStaticPasswords(state, []storage.Password{user("u1"), user("u2")}, logger)
	local := storage.Connector{ID: server.LocalConnector, Name: "Email", Type: server.LocalConnector}
	state = storage.WithStaticConnectors(state, []storage.Connector{local})
	dex, err := server.NewServer(context.Background(), server.Config{
		Issuer:             "http://" + listen,
		Storage:            state,
		SkipApprovalScreen: true,
		PasswordConnector:  server.LocalConnector,
		Logger:             logger,
		Web:                server.WebConfig{WebFS: web.FS()},
	})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(listen, dex))
}
