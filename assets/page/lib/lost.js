// A server that does not answer is told of, and taken up again by itself: it has this window's texts for a while (stream/window.js),
// and prompt, settings and text are kept in the window, too (share/storage.js). One that answers says whether it still has what it
// writes for this window. What is written already stays here without it, and is told of where it is needed (lib/refused.js).
import { make, makeButton, say } from './dom.js';

const EVERY = 2000, PATIENCE = 2500;   // milliseconds: within five it is said
const WORDS = 'The server does not answer. What is here stays, and this page goes on by itself once it is back.';
const BACK = 'The server is back, and knows nothing of this window. Look at what Compare and Tune have found first: that goes when the page is loaded again.';
const AWAITED = ':is([data-state="waiting"], [data-state="running"])';
const RESULTS = '.compare-text .w, .tune-body:not([hidden])';   // also of what was cut off, whose state stays "running"

const line = Object.assign(make('div', 'lost'), { role: 'alert', hidden: true }), words = make('p');
const again = makeButton('', 'Load the page again');
again.hidden = true;
again.addEventListener('click', () => location.reload());
line.append(words, again);
document.body.append(line);
let gone = false, begun = null;   // `begun`: which start of the server this window is of
let key = '', isOurs = false;   // the feed's, and whether the server knew it when it was asked last

// What the other tabs measured only the server has.
const goOn = (isKept) => {
  if (isKept || !document.querySelector(RESULTS)) return location.reload();
  line.hidden = again.hidden = false;
  say(words, BACK);
};

// One that the server never knew was empty, or is just being opened.
const isLost = (isKnown) => {
  const was = isOurs;
  isOurs = isKnown;
  return was && !isKnown && Boolean(document.querySelector(AWAITED));
};

// The first time it only learns what the page, which has just been opened, shows already.
const look = async () => {
  if (!document.hidden || begun === null) {
    try {
      const asked = key, headers = key ? { 'citer-feed': key } : {};
      const answer = await fetch('gradio_api/citer/pair', { cache: 'no-store', headers, signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const [start, session] = (await answer.text()).split(' ');
      const isSame = start === (begun ??= start);
      if (gone || !isSame) return goOn(isSame && session === 'known');
      if (asked === key && isLost(session === 'known')) return goOn(false);
      line.hidden = true;
      say(words, '');
    } catch (error) {
      const isSlow = error.name === 'TimeoutError';   // it still has everything, and while it loads its models it may be slow
      gone ||= !isSlow;
      if (!isSlow || !document.querySelector('.loads')) {
        line.hidden = false;
        say(words, WORDS);
      }
    }
  }
  setTimeout(look, EVERY);
};
// Gradio (6.31) asks for `app_id` once a request of its own was cut, and at the first answer loads the page again, with all that
// Compare and Tune have found. When that is done is said above, so it gets no answer.
const ask = window.fetch;
window.fetch = async (...asked) => {
  if (!String(asked[0]).endsWith('/app_id')) return ask(...asked);
  gone = true;
  return Response.error();
};

document.addEventListener('citer-key', ({ detail }) => {
  if (detail === key) return;
  key = detail;
  if (isLost(false)) goOn(false);   // the feed was quicker to find that out, and has another session's by now
});
addEventListener('pageshow', ({ persisted }) => { if (persisted) location.reload(); });   // its session went when it was left
look();
