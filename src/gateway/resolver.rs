//! What the upstream's name means: asked for by one lookup at a time, and kept where nobody answers.
//!
//! The system's resolver blocks a thread for as long as it likes (some 30 s where its servers are silent), and tokio has a
//! limited number of threads for that. Requests never wait for it where an address is known, and never each ask it.

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

/// How long a resolved name is used before it is asked for again.
const RESOLVED_FOR: Duration = Duration::from_secs(5);
/// How long it is used while it is being asked for again. Whoever comes later waits for the answer, as long as connecting may
/// take.
const USED_FOR: Duration = Duration::from_secs(60);
/// The most addresses of one name that are tried.
pub(super) const ADDRESSES_MAX: usize = 4;
/// A name that cannot be resolved; `failure` gives it a status.
pub(super) const RESOLVE_ERROR: ErrorType = ErrorType::Custom("ResolveError");

type Found = io::Result<Vec<SocketAddr>>;
type Lookup = Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = Found> + Send>> + Send + Sync>;

/// Resolves the upstream's name, and remembers which of its addresses answered.
pub(super) struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    lookup: Lookup,
    known: ArcSwapOption<Resolved>,
    /// The lookup under way: of which name, and what ends when it does.
    asking: Mutex<Option<(String, watch::Receiver<()>)>>,
    /// Whether the last lookup failed: said once.
    is_failing: AtomicBool,
}

/// What a name meant a moment ago.
#[derive(Debug)]
pub(super) struct Resolved {
    name: String,
    addresses: Vec<SocketAddr>,
    /// The address that is tried first.
    preferred: AtomicUsize,
    at: Instant,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new(Arc::new(|name| Box::pin(system(name))))
    }
}

/// Asks the system's resolver.
async fn system(name: String) -> Found {
    Ok(tokio::net::lookup_host(name).await?.take(ADDRESSES_MAX).collect())
}

impl Resolver {
    fn new(lookup: Lookup) -> Self {
        let shared =
            Shared { lookup, known: ArcSwapOption::empty(), asking: Mutex::default(), is_failing: false.into() };
        Self { shared: Arc::new(shared) }
    }

    /// The addresses of `name`, a `host:port`. It waits only where none are known that are young enough, and at most for so
    /// long; then old ones are better than none.
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
        // It ends with the lookup, whatever came of it.
        let _ = timeout(patience, asking.changed()).await;
        let resolved = self.shared.known(name);
        resolved.ok_or_else(|| Error::explain(RESOLVE_ERROR, "the upstream's name has no address").into_up())
    }
}

impl Shared {
    fn known(&self, name: &str) -> Option<Arc<Resolved>> {
        self.known.load_full().filter(|known| known.name == name)
    }

    /// The lookup of this name that is under way, or else a new one.
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

    /// Whether the name is an address itself.
    fn is_literal(&self) -> bool {
        self.name.parse::<SocketAddr>().is_ok()
    }

    /// How many addresses the name has.
    pub(super) fn len(&self) -> usize {
        self.addresses.len()
    }

    /// The one to try next.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.addresses.get(self.preferred.load(Ordering::Relaxed) % self.addresses.len().max(1)).copied()
    }

    /// The preferred address did not answer: the next one is preferred from now on.
    pub(super) fn prefer_next(&self) {
        self.preferred.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// A resolver whose answers the test gives, and what was asked.
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

    /// Lets time pass for what is known.
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
    async fn one_lookup_serves_all_who_wait() {
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
    async fn known_addresses_are_used_while_they_are_asked_for_and_kept_where_that_fails() {
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
    async fn what_is_unknown_fails_and_is_asked_for_again() {
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
