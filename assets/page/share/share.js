// The menu Share hands out the text on the page, and opens a file. The browser makes the downloads, so the server stores no file.
import { follow, isOver } from '../lib/channel.js';
import { copy, finder, listen, onPick, save } from '../lib/dom.js';
import { counted } from '../lib/format.js';
import { openRace } from '../lib/tabs.js';
import { addressOf, LONGEST, pack } from './pack.js';
import { drawPicture, toBlob } from './picture.js';
import { startKeep } from './storage.js';

const TYPES = { json: 'application/json', html: 'text/html' };

export const start = ({ element, props, server, trigger, watch }) => {
  const find = finder(element), said = find('.share-said'), spare = find('.share-copy'), picker = find('input[type="file"]');
  const menu = find('.share'), takers = [...element.querySelectorAll('[data-take]:not([data-take="film"])')];
  let run = null, row = null;   // the text on the page: a run, and the row of a recorded text
  let taken = null;             // the text that was taken last

  const sayLine = (text, bad = false) => {
    said.textContent = text;
    said.classList.toggle('bad', bad);
    taken = null;
    spare.hidden = find('.share-file').hidden = true;
  };

  const saveAs = (content, kind, type, more = '') => sayLine(`Saved as ${save('citer', kind, type, content)}.${more}`);

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
      return copyOrShow(address, `the link, ${address.length.toLocaleString('en')} characters: it contains the text`);
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
      taken = `${run}/${row}`;
    } catch (error) {
      console.warn(error);
      sayLine('The server did not answer: is it still running?', true);
    }
  };

  const open = async (file) => {
    const { name, size } = file, { max_bytes: most } = props;
    if (size > most) return sayLine(`${name} has ${(size / 1e6).toFixed(1)} MB; a file of at most ${most / 1e6} MB can be opened.`, true);
    sayLine(`Opening ${name} …`);
    try {
      trigger('upload', { name, text: await file.text() });
    } catch {
      sayLine(`${name} cannot be read.`, true);
    }
  };

  for (const button of takers) button.addEventListener('click', () => take(button.dataset.take));
  find('[data-take="film"]').addEventListener('click', () => {
    menu.open = false;
    openRace('film', false);
  });
  find('.share-file').addEventListener('click', () => take('json'));
  find('[data-open]').addEventListener('click', () => picker.click());
  onPick(picker, open);
  listen(element, 'citer-shown', ({ detail }) => {
    [run, row] = [detail.run, detail.row];
    if (taken !== null && taken !== `${run}/${row}`) sayLine('');   // the line is about another text
    const there = run !== null && detail.tokens > 0 && isOver(detail.state);
    for (const button of takers) button.disabled = !there;
  });
  startKeep({ element, server });
  follow({ props, watch }, (message) => {
    sayLine(message.said, message.bad);
    menu.open = Boolean(message.bad);
  });
};
