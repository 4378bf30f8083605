// Notices a server that is away, says so, and loads the page again once the server is back. The server keeps this window's texts for a
// while (stream/window.js), and the window itself keeps prompt, settings and text (share/storage.js). The server also says whether it
// still knows this window. If it does not, a text that is complete stays usable; refused.js says so when a change of it fails.
import { say } from './dom.js';
import { makeAlert } from './refused.js';

const EVERY = 2000, PATIENCE = 2500;   // milliseconds; together they notice within five seconds
const WORDS = 'The server does not answer. What is here stays, and this page goes on by itself once it is back.';
const BACK = 'The server is back but no longer knows this window. Look at Compare and Tune first: loading the page again removes their results.';
const UNFINISHED = ':is([data-state="waiting"], [data-state="running"])';
const RESULTS = '.compare-text .w, .tune-body:not([hidden])';   // results that only the server keeps, unfinished ones included

const { line, words, reload } = makeAlert('lost');
let isAway = false, serverStart = null;   // `serverStart` differs after each start of the server
let key = '', wasKnown = false;           // the feed's key, and whether the server knew it in the last answer

const goOn = (isKept) => {
  if (isKept || !document.querySelector(RESULTS)) return location.reload();
  line.hidden = reload.hidden = false;
  say(words, BACK);
};

// Whether the server has forgotten this window while it writes for it. A window that it has never known is new, or has no text.
const isLost = (isKnown) => {
  const had = wasKnown;
  wasKnown = isKnown;
  return had && !isKnown && Boolean(document.querySelector(UNFINISHED));
};

const look = async () => {
  if (!document.hidden || serverStart === null) {
    try {
      const sent = key, headers = key ? { 'citer-feed': key } : {};
      const answer = await fetch('gradio_api/citer/pair', { cache: 'no-store', headers, signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const [start, session] = (await answer.text()).split(' ');
      const isSame = start === (serverStart ??= start);
      if (isAway || !isSame) return goOn(isSame && session === 'known');
      if (sent === key && isLost(session === 'known')) return goOn(false);
      line.hidden = true;
      say(words, '');
    } catch (error) {
      const isSlow = error.name === 'TimeoutError';   // a slow server has lost nothing; it is slow while it loads its models
      isAway ||= !isSlow;
      if (!isSlow || !document.querySelector('.loads')) {
        line.hidden = false;
        say(words, WORDS);
      }
    }
  }
  setTimeout(look, EVERY);
};

// After a cut request gradio 6.31 asks for `app_id`, and loads the page again at the first answer. Results of Compare and Tune would be
// lost by that. `goOn` decides when to load, so gradio gets no answer.
const originalFetch = window.fetch;
window.fetch = async (...request) => {
  if (!String(request[0]).endsWith('/app_id')) return originalFetch(...request);
  isAway = true;
  return Response.error();
};

document.addEventListener('citer-key', ({ detail }) => {
  if (detail === key) return;
  key = detail;
  if (isLost(false)) goOn(false);   // the feed has noticed first, and has a new session's key by now
});
addEventListener('pageshow', ({ persisted }) => { if (persisted) location.reload(); });   // a page from the browser's cache has lost its session
look();
