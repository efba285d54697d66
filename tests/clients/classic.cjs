// The classic script that the demo serves at /clients.js, in Node. Argument: the demo's URL. Prints the first event of each transport.
'use strict';

const vm = require('node:vm');

globalThis.WebSocket ??= require('ws');
const [url] = process.argv.slice(2);

(async () => {
  const script = await (await fetch(`${url}/clients.js`)).text();
  const names = '({ ndjson: NdjsonStream, sse: SseStream, websocket: WebSocketStream })';
  const clients = vm.runInThisContext(`${script}\n${names}`);
  for (const [transport, path] of Object.entries({ ndjson: '/stream', sse: '/events', websocket: '/ws' })) {
    const first = new Promise((resolve) => {
      const stream = new clients[transport](url + path, {
        event(event, cursor) {
          resolve({ transport, type: event.type, cursor });
          stream.close();
        },
      });
      stream.open();
    });
    first.then((line) => console.log(JSON.stringify(line)));
  }
})();
