// Builds Centrifugo as it is published; `go install` would ask for versions that a proxy need not have.
module sidestream/benches/peers/centrifugo

go 1.23.0

require github.com/centrifugal/centrifugo/v5 v5.4.9
