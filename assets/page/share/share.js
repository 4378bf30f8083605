// The menu Share: hands out the text on the page, and opens a file. Downloads are made here, from what the server says; nothing
// is written anywhere else.
import { follow } from '../lib/channel.js';
import { copy, finder, listen, save } from '../lib/dom.js';
import { counted } from '../lib/format.js';
import { openRace } from '../lib/tabs.js';
import { addressOf, LONGEST, pack } from './pack.js';
import { drawPicture, toBlob } from './picture.js';
import { startKeep } from './storage.js';

const TYPES = { json: 'application/json', html: 'text/html' };   // of what is saved as it comes

export const start = ({ element, props, server, trigger, watch }) => {
  const find = finder(element), said = find('.share-said'), spare = find('.share-copy'), picker = find('input[type="file"]');
  const menu = find('.share'), takers = [...element.querySelectorAll('[data-take]:not([data-take="film"])')];
  let run = null, row = null;   // which text is on the page: a run's, or the one in this row of a sweep
  let about = null;             // which one was taken last

  const sayLine = (text, bad = false) => {
    said.textContent = text;
    said.classList.toggle('bad', bad);
    about = null;
    spare.hidden = find('.share-file').hidden = true;
  };

  const saveAs = (content, kind, type, more = '') => {
    const name = `citer-${new Date().toISOString().slice(0, 19).replaceAll(':', '-')}.${kind}`;
    save(name, type, content);
    sayLine(`Saved as ${name}.${more}`);
  };

  // Where the browser refuses, the text is shown, selected.
  const copyOrShow = async (text, what) => {
    const copied = await copy(text);
    sayLine(copied ? `Copied ${what}.` : 'The browser does not let this page copy. Here it is, selected, to copy by hand:');
    if (copied) return;
    Object.assign(spare, { hidden: false, value: text });
    spare.focus();
    spare.select();
  };

  const takePicture = async (text) => {
    const content = JSON.parse(text), all = content.tokens.length, headline = document.querySelector('.outcome').textContent;
    const { canvas, shown } = drawPicture({ ...content, title: document.title, headline }, element);
    const part = shown < all ? ` It has the first ${shown.toLocaleString('en')} of ${counted(all, 'token')}.` : '';
    saveAs(await toBlob(canvas), 'png', 'image/png', part);
  };

  const takeLink = async (text) => {
    const able = 'CompressionStream' in window, packed = able && text ? await pack(text) : null;
    if (packed && packed.length <= LONGEST) {
      const address = addressOf(packed);
      return copyOrShow(address, `the link, ${address.length.toLocaleString('en')} characters: this very text is in it`);
    }
    sayLine(able ? `The text is too long for a link, which has at most ${LONGEST.toLocaleString('en')} characters.` : 'This browser cannot put a text into a link.');
    find('.share-file').hidden = false;
  };

  const TAKE = { link: takeLink, picture: takePicture };

  const take = async (kind) => {
    try {
      const answer = await server.take({ run, row, kind });
      if (answer === null) return sayLine('The server no longer has this text: load the page again, which brings back what this window keeps, or generate it again.', true);
      await (TAKE[kind] ?? ((text) => saveAs(text, kind, TYPES[kind])))(answer);
      about = `${run}/${row}`;
    } catch (error) {
      console.warn(error);
      sayLine('The server did not answer: is it still running?', true);
    }
  };

  const open = async () => {
    const [file] = picker.files, { max_bytes: most } = props;
    if (!file) return;
    const { name, size } = file;
    if (size > most) return sayLine(`${name} has ${(size / 1e6).toFixed(1)} MB; a file of at most ${most / 1e6} MB can be opened.`, true);
    sayLine(`Opening ${name} …`);
    try {
      trigger('upload', { name, text: await file.text() });
    } catch {
      sayLine(`${name} cannot be read.`, true);
    }
  };
  const openPicked = () => open().finally(() => { picker.value = ''; });   // so that the same file can be opened again

  for (const button of takers) button.addEventListener('click', () => take(button.dataset.take));
  find('[data-take="film"]').addEventListener('click', () => {
    menu.open = false;
    openRace('film', false);
  });
  find('.share-file').addEventListener('click', () => take('json'));
  find('[data-open]').addEventListener('click', () => picker.click());
  picker.addEventListener('change', openPicked);
  openPicked();   // picked before this script was there
  listen(element, 'citer-shown', ({ detail }) => {
    [run, row] = [detail.run, detail.row];
    if (about !== null && about !== `${run}/${row}`) sayLine('');   // what was said is about another text
    const there = run !== null && detail.tokens > 0 && !['waiting', 'running'].includes(detail.state);
    for (const button of takers) button.disabled = !there;
  });
  startKeep({ element, server });
  follow({ props, watch }, (message) => {
    if (!message) return;
    sayLine(message.said, message.bad);
    menu.open = Boolean(message.bad);
  });
};
