// Says what a link filled in and what it could not, and opens the text that a link carries.
import { follow } from '../lib/channel.js';
import { finder, listen, make } from '../lib/dom.js';
import { carried, unpack } from './pack.js';
import { keptLink } from './storage.js';

export const start = ({ element, props, trigger, watch }) => {
  const find = finder(element), note = find('.link-note');
  let text = null, seen = false, onPage = null;   // the run of the link's text, whether that was on the page by now, and which is
  let awaited = keptLink();   // the link's text comes from before the page was loaded again, with what was typed since

  const clearAddress = () => history.replaceState(null, '', location.pathname + location.search);

  const tell = ({ said, refused = [], again = false, run = null, bad = false }) => {
    note.hidden = !said;
    note.classList.toggle('of-text', run !== null);
    note.classList.toggle('bad', bad);
    find('p').textContent = said;
    find('ul').replaceChildren(...refused.map((reason) => make('li', '', reason)));
    find('.link-again').hidden = !again;
    [text, seen] = [run, run !== null && run === onPage];
    if (bad) clearAddress();   // or a reload would bring the refusal again, and not what is here
  };

  const open = async () => {
    const packed = carried(location.hash);
    if (packed === null) return;
    tell({ said: 'Opening the text of the link …' });
    try {
      trigger('upload', { text: await unpack(packed) });
    } catch ({ message }) {
      tell({ said: `The text of this link was not opened. ${message}.`, bad: true });
    }
  };

  find('.link-again').addEventListener('click', () => document.querySelector('#generate').click());
  // The address carries the text for as long as it is on the page: so it can be passed on from there, and is not brought back.
  listen(element, 'citer-shown', ({ detail: { run } }) => {
    onPage = run;
    if (awaited && run !== null) [text, awaited] = [run, false];
    if (text === null || run === null) return;
    if (run === text) seen = true;
    else if (seen) {
      clearAddress();
      tell({ said: '' });
    }
  });
  window.addEventListener('hashchange', () => { if (element.isConnected) open(); });
  follow({ props, watch }, (message) => {
    if (!message) return;
    tell(message);
    if (message.run && note.getBoundingClientRect().top > innerHeight / 2) note.scrollIntoView({ block: 'start' });   // a telephone
  });
  if (!awaited) open();
};
