// What a team would write by hand: a sync.Map of sessions that every event ranges over, a bounded channel each, and
// json.Marshal in each session's handler. Lines of its input stand in the place of Kafka: an envelope each.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// Event is the envelope; ID is where it stood in the log.
type Event struct {
	ID   string `json:"id"`
	TS   int64  `json:"ts"`
	Type string `json:"type"`
	User string `json:"user,omitempty"`
	Data any    `json:"data"`
}

type session struct {
	user   string
	events chan *Event
}

var sessions sync.Map // number -> *session

func authorized(event *Event, s *session) bool {
	return event.User == "" || event.User == s.user
}

func dispatch(lines io.Reader) {
	scanner := bufio.NewScanner(lines)
	scanner.Buffer(make([]byte, 1<<20), 1<<20)
	for offset := 0; scanner.Scan(); offset++ {
		event := &Event{ID: fmt.Sprintf("topic:0:%d", offset), TS: time.Now().UnixMilli()}
		if json.Unmarshal(scanner.Bytes(), event) != nil {
			continue
		}
		sessions.Range(func(_, value any) bool {
			s := value.(*session)
			if authorized(event, s) {
				select {
				case s.events <- event:
				default: // overflow: the newest is dropped
				}
			}
			return true
		})
	}
}

func stream(w http.ResponseWriter, r *http.Request) {
	s := &session{user: strings.TrimPrefix(r.URL.Path, "/users/"), events: make(chan *Event, 1024)}
	sessions.Store(s, s)
	defer sessions.Delete(s)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("X-Accel-Buffering", "no")
	flusher := w.(http.Flusher)
	flusher.Flush()
	heartbeat := time.NewTicker(10 * time.Minute)
	defer heartbeat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-heartbeat.C:
			io.WriteString(w, ":keep-alive\n\n")
		case event := <-s.events:
			io.WriteString(w, "id: "+event.ID+"\n")
			text, _ := json.Marshal(event)
			io.WriteString(w, "data: "+string(text)+"\n\n")
		}
		flusher.Flush()
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listen=%s\n", listener.Addr())
	go dispatch(os.Stdin)
	log.Fatal(http.Serve(listener, http.HandlerFunc(stream)))
}
