//! Resolves the upstream's name: one lookup at a time, with the last addresses kept while lookups fail.
//!
//! The system's resolver blocks a thread until its own timeout (some 30 s if its servers are silent), and tokio has a
//! limited number of such threads. A request therefore waits for a lookup only if no address is known, and requests
//! share one lookup.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use pingora::{Error, ErrorType};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long the addresses are fresh. Afterwards they are looked up again.
const RESOLVED_FOR: Duration = Duration::from_secs(5);
/// How long stale addresses are used while they are looked up again. Older ones are used only if the lookup does not
/// succeed within the connect timeout.
const USED_FOR: Duration = Duration::from_secs(60);
/// The most addresses of one name that are tried.
pub(super) const ADDRESSES_MAX: usize = 4;
/// The name cannot be resolved; `failure` assigns the status.
pub(super) const RESOLVE_ERROR: ErrorType = ErrorType::Custom("ResolveError");

type Found = io::Result<Vec<SocketAddr>>;
type Lookup = Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = Found> + Send>> + Send + Sync>;

/// Resolves the upstream's name, and remembers which address accepted connections.
pub(super) struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    lookup: Lookup,
    known: ArcSwapOption<Resolved>,
    /// The lookup in progress: its name, and a channel that closes when it ends.
    asking: Mutex<Option<(String, watch::Receiver<()>)>>,
    /// Whether the last lookup failed, so that an outage is logged once.
    is_failing: AtomicBool,
}

/// The addresses of a name, with their age.
#[derive(Debug)]
pub(super) struct Resolved {
    name: String,
    addresses: Vec<SocketAddr>,
    /// The index of the address that is tried first.
    preferred: AtomicUsize,
    at: Instant,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new(Arc::new(|name| Box::pin(system(name))))
    }
}

/// Calls the system's resolver.
async fn system(name: String) -> Found {
    Ok(tokio::net::lookup_host(name).await?.take(ADDRESSES_MAX).collect())
}

impl Resolver {
    fn new(lookup: Lookup) -> Self {
        let shared =
            Shared { lookup, known: ArcSwapOption::empty(), asking: Mutex::default(), is_failing: false.into() };
        Self { shared: Arc::new(shared) }
    }

    /// The addresses of `name`, a `host:port`. Waits up to `patience` only if the known addresses are too old or
    /// missing. If the lookup does not succeed, old addresses are used.
    pub(super) async fn resolve(&self, name: &str, patience: Duration) -> pingora::Result<Arc<Resolved>> {
        let known = self.shared.known(name);
        let age = known.as_ref().map(|known| known.at.elapsed());
        if let (Some(known), Some(age)) = (&known, age)
            && (age < RESOLVED_FOR || known.is_literal())
        {
            return Ok(known.clone());
        }
        if let Ok(address) = name.parse() {
            return Ok(self.shared.remember(name, vec![address]));
        }
        let mut asking = Shared::ask(&self.shared, name);
        if let (Some(known), Some(age)) = (&known, age)
            && age < USED_FOR
        {
            return Ok(known.clone());
        }
        // The channel closes with the lookup, whatever its result.
        let _ = timeout(patience, asking.changed()).await;
        let resolved = self.shared.known(name);
        resolved.ok_or_else(|| Error::explain(RESOLVE_ERROR, "the upstream's name has no address").into_up())
    }
}

impl Shared {
    fn known(&self, name: &str) -> Option<Arc<Resolved>> {
        self.known.load_full().filter(|known| known.name == name)
    }

    /// Joins the lookup of this name, or starts one.
    fn ask(shared: &Arc<Self>, name: &str) -> watch::Receiver<()> {
        let mut asking = shared.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, asked)) = asking.as_ref().filter(|(of, asked)| of == name && asked.has_changed().is_ok()) {
            return asked.clone();
        }
        let (ends, ended) = watch::channel(());
        *asking = Some((name.to_owned(), ended.clone()));
        let (shared, name) = (shared.clone(), name.to_owned());
        tokio::spawn(async move {
            let found = (shared.lookup)(name.clone()).await;
            shared.found(&name, found);
            drop(ends);
        });
        ended
    }

    fn found(&self, name: &str, found: Found) {
        let error = match found {
            Ok(addresses) if !addresses.is_empty() => {
                self.is_failing.store(false, Ordering::Relaxed);
                self.remember(name, addresses);
                return;
            }
            Ok(_) => "it has no address".to_owned(),
            Err(error) => error.to_string(),
        };
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            let is_known = self.known(name).is_some();
            tracing::warn!(name, error, is_known, "cannot resolve the upstream's name; keeping the known addresses");
        }
    }

    fn remember(&self, name: &str, addresses: Vec<SocketAddr>) -> Arc<Resolved> {
        let before = self.known.load_full().filter(|known| known.addresses == addresses);
        let preferred = before.map_or(0, |known| known.preferred.load(Ordering::Relaxed));
        let resolved = Arc::new(Resolved::new(name, addresses, preferred));
        self.known.store(Some(resolved.clone()));
        resolved
    }
}

impl Resolved {
    pub(super) fn new(name: &str, addresses: Vec<SocketAddr>, preferred: usize) -> Self {
        Self { name: name.to_owned(), addresses, preferred: AtomicUsize::new(preferred), at: Instant::now() }
    }

    /// Whether the name is an IP address.
    fn is_literal(&self) -> bool {
        self.name.parse::<SocketAddr>().is_ok()
    }

    /// How many addresses the name has.
    pub(super) fn len(&self) -> usize {
        self.addresses.len()
    }

    /// The address to try next.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.addresses.get(self.preferred.load(Ordering::Relaxed) % self.addresses.len().max(1)).copied()
    }

    /// The preferred address did not accept a connection: prefers the next one from now on.
    pub(super) fn prefer_next(&self) {
        self.preferred.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// A resolver whose results the test supplies, and its queries.
    fn resolver() -> (Arc<Resolver>, mpsc::UnboundedReceiver<tokio::sync::oneshot::Sender<Found>>) {
        let (ask, asked) = mpsc::unbounded_channel();
        let lookup: Lookup = Arc::new(move |_| {
            let (answer, answered) = tokio::sync::oneshot::channel();
            ask.send(answer).unwrap();
            Box::pin(async move { answered.await.unwrap() })
        });
        (Arc::new(Resolver::new(lookup)), asked)
    }

    fn addresses(text: &str) -> Found {
        Ok(vec![text.parse().unwrap()])
    }

    /// Ages the known addresses.
    fn age(resolver: &Resolver, by: Duration) {
        let known = resolver.shared.known.load_full().unwrap();
        let mut older = Resolved::new(&known.name, known.addresses.clone(), 0);
        older.at -= by;
        resolver.shared.known.store(Some(Arc::new(older)));
    }

    async fn first(resolver: &Resolver) -> Option<String> {
        resolver.resolve("service:80", LONG).await.ok()?.address().map(|address| address.to_string())
    }

    #[tokio::test]
    async fn waiting_requests_share_one_lookup() {
        let (resolver, mut asked) = resolver();
        let started = Arc::new(Semaphore::new(0));
        let waiting: Vec<_> = (0..50)
            .map(|_| {
                let (resolver, started) = (resolver.clone(), started.clone());
                tokio::spawn(async move {
                    started.add_permits(1);
                    first(&resolver).await
                })
            })
            .collect();
        let _ = started.acquire_many(50).await.unwrap();
        asked.recv().await.unwrap().send(addresses("10.0.0.1:80")).unwrap();
        for waits in waiting {
            assert_eq!(waits.await.unwrap().as_deref(), Some("10.0.0.1:80"));
        }
        assert!(asked.try_recv().is_err());
    }

    #[tokio::test]
    async fn known_addresses_are_used_during_a_lookup_and_kept_if_it_fails() {
        let (resolver, mut asked) = resolver();
        let (first_answer, ()) = tokio::join!(first(&resolver), async {
            asked.recv().await.unwrap().send(addresses("10.0.0.1:80")).unwrap()
        });
        assert_eq!(first_answer.as_deref(), Some("10.0.0.1:80"));

        age(&resolver, RESOLVED_FOR);
        assert_eq!(first(&resolver).await.as_deref(), Some("10.0.0.1:80"), "not waited for");
        let (_, mut asking) = resolver.shared.asking.lock().unwrap().clone().unwrap();
        asked.recv().await.unwrap().send(Err(io::ErrorKind::TimedOut.into())).unwrap();
        assert!(asking.changed().await.is_err(), "it has ended");
        age(&resolver, USED_FOR);
        let (kept, ()) =
            tokio::join!(first(&resolver), async { asked.recv().await.unwrap().send(Ok(Vec::new())).unwrap() });
        assert_eq!(kept.as_deref(), Some("10.0.0.1:80"), "old addresses are better than none");
        assert!(resolver.shared.is_failing.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn an_unknown_name_fails_and_is_looked_up_again() {
        let (resolver, mut asked) = resolver();
        let (failed, ()) = tokio::join!(first(&resolver), async {
            asked.recv().await.unwrap().send(Err(io::ErrorKind::NotFound.into())).unwrap();
        });
        assert_eq!(failed, None);
        let (found, ()) = tokio::join!(first(&resolver), async {
            asked.recv().await.unwrap().send(addresses("10.0.0.2:80")).unwrap()
        });
        assert_eq!(found.as_deref(), Some("10.0.0.2:80"));
    }

    #[tokio::test]
    async fn an_address_needs_no_lookup() {
        let (resolver, mut asked) = resolver();
        for _ in 0..2 {
            let resolved = resolver.resolve("127.0.0.1:80", LONG).await.unwrap();
            assert_eq!(resolved.address(), "127.0.0.1:80".parse().ok());
            age(&resolver, USED_FOR);
        }
        assert!(asked.try_recv().is_err());
    }
}
