module sidestream/benches/peers/sketch

go 1.21
