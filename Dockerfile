# The image that k8s/ names: the binary, the shared libraries it needs (`ldd` lists libc, libm, libgcc_s, libssl and
# libcrypto), certificates, and nothing else: no shell, no package manager.
#
#   docker build --tag sidestream:0.1.0 .
#
# Both stages are of one Debian release, so that the libraries of the second are those the first linked against. Pin them
# by digest where your registry keeps one: `docker buildx imagetools inspect IMAGE` prints it.
FROM rust:1.91-trixie AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake libssl-dev perl pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --release --locked --bin sidestream \
    && cp target/release/sidestream /usr/local/bin/sidestream

FROM gcr.io/distroless/cc-debian13:nonroot
COPY --from=build /usr/local/bin/sidestream /usr/local/bin/sidestream
# `nonroot` by its number: Kubernetes can't tell that a name is not root's.
USER 65532:65532
EXPOSE 18080 19090
ENTRYPOINT ["/usr/local/bin/sidestream"]
CMD ["run", "--config", "/etc/sidestream/sidestream.yaml"]
