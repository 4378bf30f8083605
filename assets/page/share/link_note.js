// Opens the text that a link carries, and says which fields a link filled in and which it could not.
import { follow } from '../lib/channel.js';
import { finder, listen, make } from '../lib/dom.js';
import { carried, unpack } from './pack.js';
import { keptLink } from './storage.js';

export const start = ({ element, props, trigger, watch }) => {
  const find = finder(element), note = find('.link-note');
  let linked = null, seen = false;   // the run of the link's text, and whether it has been on the page
  let onPage = null;                 // the run of the text on the page
  let restored = keptLink();         // whether `storage.js` brings the link's text back, after a reload

  const clearAddress = () => history.replaceState(null, '', location.pathname + location.search);

  const show = ({ said, refused = [], again = false, run = null, bad = false }) => {
    note.hidden = !said;
    note.classList.toggle('bad', bad);
    find('p').textContent = said;
    find('ul').replaceChildren(...refused.map((reason) => make('li', '', reason)));
    find('.link-again').hidden = !again;
    [linked, seen] = [run, run !== null && run === onPage];
    if (bad) clearAddress();   // so that a reload does not try the link again
  };

  const open = async () => {
    const packed = carried(location.hash);
    if (packed === null) return;
    show({ said: 'Opening the text of the link …' });
    try {
      trigger('upload', { text: await unpack(packed) });
    } catch ({ message }) {
      show({ said: `The text of this link was not opened. ${message}.`, bad: true });
    }
  };

  find('.link-again').addEventListener('click', () => document.querySelector('#generate').click());
  // The address keeps the text while that is on the page, so it can be passed on from there.
  listen(element, 'citer-shown', ({ detail: { run } }) => {
    onPage = run;
    if (restored && run !== null) [linked, restored] = [run, false];
    if (linked === null || run === null) return;
    if (run === linked) seen = true;
    else if (seen) {
      clearAddress();
      show({ said: '' });
    }
  });
  window.addEventListener('hashchange', () => { if (element.isConnected) open(); });
  follow({ props, watch }, (message) => {
    show(message);
    if (message.run && note.getBoundingClientRect().top > innerHeight / 2) note.scrollIntoView({ block: 'start' });   // on a telephone the note is below the window
  });
  if (!restored) open();
};
