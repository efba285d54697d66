use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderValue;
use http::header::COOKIE;

use super::*;
use crate::auth::ServiceHooks;

fn forward(address: SocketAddr, cache: Duration) -> Arc<Forward> {
    let settings = ForwardSettings {
        service: ServiceSettings {
            uri: format!("http://{address}/").parse().unwrap(),
            is_direct: false,
            roots: None,
            cache,
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
        },
        is_upstream: false,
        request_headers: [COOKIE].into(),
        claims: [].into(),
    };
    let forward = Arc::new(Forward::new(settings, Arc::default()));
    forward.start(&ServiceHooks {
        on_answer: Arc::new(|_, _| {}),
        on_withdrawal: Arc::new(|| {}),
        on_verified: Arc::new(|_| {}),
    });
    forward
}

fn question(forward: &Forward, cookie: &str) -> Question {
    let headers = [(COOKIE, HeaderValue::from_str(cookie).unwrap())].into_iter().collect();
    forward.question(&headers, &Method::GET, "/").unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A service that accepts every request, and counts them.
fn service() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let count = asked.clone();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = socket.read(&mut [0; 4096]).unwrap();
            let _ = socket.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
        }
    });
    (address, asked)
}

#[test]
fn those_who_ask_the_same_at_the_same_time_share_a_request() {
    let (address, asked) = service();
    block_on(async {
        let forward = forward(address, Duration::ZERO);
        let (one, two, other) = (question(&forward, "a"), question(&forward, "a"), question(&forward, "b"));
        let (one, two, other) = tokio::join!(forward.identify(one), forward.identify(two), forward.identify(other));
        assert!(one.is_ok() && two.is_ok() && other.is_ok());
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        assert!(forward.identify(question(&forward, "a")).await.is_ok());
        assert_eq!(asked.load(Ordering::SeqCst), 3, "nothing is cached");
    });
}

#[test]
fn who_gives_up_leaves_no_one_waiting() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    block_on(async {
        let forward = forward(address, Duration::from_secs(1));
        let given_up = tokio::time::timeout(Duration::from_millis(50), forward.identify(question(&forward, "a"))).await;
        assert!(given_up.is_err());
        drop(silent);
        assert_eq!(forward.identify(question(&forward, "a")).await.err(), Some(ServiceError::Unavailable));
    });
}

#[test]
fn a_later_configuration_can_ask_at_once() {
    let (address, _) = service();
    block_on(async {
        let before = forward(address, Duration::ZERO);
        let settings = ForwardSettings {
            service: ServiceSettings { interval: Duration::from_secs(30), ..before.settings.service.clone() },
            ..before.settings.clone()
        };
        let now = Arc::new(Forward::new(settings, Arc::default()));
        assert_eq!(
            now.identify(question(&now, "a")).await.err(),
            Some(ServiceError::Unavailable),
            "nothing can be sent"
        );
        now.inherit(&before);
        assert!(now.identify(question(&now, "b")).await.is_ok());
    });
}
