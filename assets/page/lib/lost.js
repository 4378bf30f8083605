// A server that does not answer is told of, and taken up again by itself: what was here is kept in this window (share/storage.js).
// One that answers says which news of its pair it has.
import { make, makeButton, say } from './dom.js';

const EVERY = 2000, PATIENCE = 2500;   // milliseconds: within five it is said
const WORDS = 'The server does not answer. What is here stays, and this page goes on by itself once it is back.';
const BACK = 'The server is back, and knows nothing of this window. Look at what Compare and Tune have found first: that goes when the page is loaded again.';
const RESULTS = ':is(.compare-state, .tune-state):is([data-state="done"], [data-state="stopped"])';

const line = Object.assign(make('div', 'lost'), { role: 'alert', hidden: true }), words = make('p');
const again = makeButton('', 'Load the page again');
again.hidden = true;
again.addEventListener('click', () => location.reload());
line.append(words, again);
document.body.append(line);
let gone = false, begun = null, known = '0';   // `begun`: which start of the server this window is of; `known`: the newest news

// What the Playground has is kept; measured texts of the other tabs are not.
const goOn = () => {
  if (!document.querySelector(RESULTS)) return location.reload();
  line.hidden = again.hidden = false;
  say(words, BACK);
};

const look = async () => {
  if (!document.hidden) {
    try {
      const answer = await fetch('gradio_api/citer/pair', { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const [start, news] = (await answer.text()).split(' ');
      if (gone || start !== (begun ??= start)) return goOn();   // its session went with the connection, or with that server
      line.hidden = true;
      say(words, '');
      if (news !== known) document.dispatchEvent(new CustomEvent('citer-pair'));
      known = news;
    } catch (error) {
      gone ||= error.name !== 'TimeoutError';   // one that is only slow still has everything
      line.hidden = false;
      say(words, WORDS);
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

addEventListener('pageshow', ({ persisted }) => { if (persisted) location.reload(); });   // its session went when it was left
setTimeout(look, EVERY);
