// A server that does not answer is told of, and taken up again by itself: what was here is kept in this window (share/keep.js).
// One that answers says which news of its pair it has.
import { make, say } from './dom.js';

const EVERY = 2000, PATIENCE = 2500;   // milliseconds: within five it is said
const WORDS = 'The server does not answer. What is here stays, and this page goes on by itself once it is back.';

const line = Object.assign(make('p', 'lost'), { role: 'alert', hidden: true });
document.body.append(line);
let gone = false, begun = null, known = '0';   // `begun`: which start of the server this window is of; `known`: the newest news

const look = async () => {
  if (!document.hidden) {
    try {
      const answer = await fetch('gradio_api/citer/pair', { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const [start, news] = (await answer.text()).split(' ');
      if (gone || start !== (begun ??= start)) return location.reload();   // its session went with the connection, or with that server
      line.hidden = true;
      say(line, '');
      if (news !== known) document.dispatchEvent(new CustomEvent('citer-pair'));
      known = news;
    } catch (error) {
      gone ||= error.name !== 'TimeoutError';   // one that is only slow still has everything
      line.hidden = false;
      say(line, WORDS);
    }
  }
  setTimeout(look, EVERY);
};
setTimeout(look, EVERY);
