// Hands out the text on the page, and opens a trace. Downloads are made here, from what the server says; nothing is
// written anywhere else.
import { follow } from '../lib/channel.js';
import { finder, listen } from '../lib/dom.js';
import { counted } from '../lib/format.js';
import { copy, save } from '../lib/take.js';
import { startKeep } from './keep.js';
import { addressOf, LONGEST, packTrace } from './pack.js';
import { drawPicture, toBlob } from './picture.js';

const TYPES = { json: 'application/json', html: 'text/html' };   // of what is saved as it comes

// At which the page shows costs: of a recorded text the server knows them from here alone.
const pricesShown = () => Object.fromEntries(['slm', 'llm'].map((name) => [name, Number(document.querySelector(`#${name}-price input[type="range"]`).value)]));

// The figures beside the dials, as they stand there.
const headline = () => [...document.querySelectorAll('.headline > span:has(b)')].map((part) => [part.querySelector('b').textContent, part.lastChild.textContent.trim()]);

export const start = ({ element, props, server, trigger, watch }) => {
  const find = finder(element), said = find('.share-said'), spare = find('.share-copy'), picker = find('input[type="file"]');
  const takers = [...element.querySelectorAll('[data-take]')];
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
  const copyOrShow = async (text, what, show = false) => {
    const copied = await copy(text);
    sayLine(copied ? `Copied ${what}.` : 'The browser does not let this page copy. Here it is, selected, to copy by hand:');
    if (copied && !show) return;
    Object.assign(spare, { hidden: false, value: text });
    if (copied) return;
    spare.focus();
    spare.select();
  };

  const add = (sentences) => { if (sentences.length) said.textContent += ` ${sentences.join(' ')}`; };

  // What the server has for a button, or null where it no longer has the text.
  const ask = async (kind) => {
    const answer = await server.take({ run, row, kind, prices: pricesShown() });
    if (!answer) sayLine('The server no longer has this text: load the page again, which brings back what this window keeps, or generate it again.', true);
    return answer ? JSON.parse(answer) : null;
  };

  const takeSettings = async ({ text, notes }) => {
    await copyOrShow(`${location.origin}${location.pathname}?${text}`, 'the link to the settings');
    add(notes);
  };

  const takePicture = async ({ text }) => {
    const content = JSON.parse(text), all = content.tokens.length;
    const { canvas, shown } = drawPicture({ ...content, title: document.title, headline: headline() }, element);
    const part = shown < all ? ` It has the first ${shown.toLocaleString('en')} of ${counted(all, 'token')}.` : '';
    saveAs(await toBlob(canvas), 'png', 'image/png', part);
  };

  const takeLink = async ({ text }) => {
    const able = 'CompressionStream' in window, packed = able ? await packTrace(text) : null;
    if (packed) {
      const address = addressOf(packed[0]), size = address.length.toLocaleString('en');
      await copyOrShow(address, `the link, ${size} characters: this very text is in it`);
      return add(packed[1].map((left) => `There was no room for ${left}.`));
    }
    const settings = await ask('settings');
    if (!settings) return;
    await takeSettings(settings);
    const why = able ? `The text is too long for a link, which has at most ${LONGEST.toLocaleString('en')} characters` : 'This browser cannot put a text into a link';
    said.textContent = `${why}. ${said.textContent}`;
    find('.share-file').hidden = false;
  };

  const takeProgram = async ({ text, notes }) => {
    await copyOrShow(text.replace('{address}', () => new URL('v1', document.baseURI).href), 'three lines for a program', true);
    add(notes);
  };

  const TAKE = {
    link: takeLink, settings: takeSettings, picture: takePicture, program: takeProgram,
    markdown: ({ text }) => copyOrShow(text, 'as Markdown'),
  };

  const take = async (kind) => {
    try {
      const answer = await ask(kind);
      if (!answer) return;
      await (TAKE[kind] ?? (({ text }) => saveAs(text, kind, TYPES[kind])))(answer);
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
    if (size > most) return sayLine(`${name} has ${(size / 1e6).toFixed(1)} MB; a trace of at most ${most / 1e6} MB can be opened.`, true);
    sayLine(`Opening ${name} …`);
    try {
      trigger('upload', { name, text: await file.text() });
    } catch {
      sayLine(`${name} cannot be read.`, true);
    }
  };
  const openPicked = () => open().finally(() => { picker.value = ''; });   // so that the same file can be opened again

  for (const button of takers) button.addEventListener('click', () => take(button.dataset.take));
  find('.share-file').addEventListener('click', () => take('json'));
  find('[data-open]').addEventListener('click', () => picker.click());
  picker.addEventListener('change', openPicked);
  openPicked();   // picked before this script was there
  listen(element, 'citer-shown', ({ detail }) => {
    [run, row] = [detail.run, detail.row];
    if (about !== null && about !== `${run}/${row}`) sayLine('');   // what was said is about another text
    const there = run !== null && detail.tokens > 0 && !['waiting', 'running'].includes(detail.state);
    if (takers[0].disabled !== there) return;
    if (!there) sayLine('');
    for (const button of takers) button.disabled = !there;
  });
  startKeep({ element, server });
  follow({ props, watch }, (message) => { if (message) sayLine(message.said, message.bad); });
};
