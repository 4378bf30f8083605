// Each tab has an address (?tab=compare), so the browser's Back works. Playground and Compare share their prompt.
import { announce } from './dom.js';

const NAMES = { playground: 'Playground', compare: 'Compare', tune: 'Tune on my prompts', how: 'How it works' };
const tabOf = (name) => [...document.querySelectorAll('#tabs [role="tab"]')].find((tab) => tab.textContent.trim() === name);
const addressed = () => NAMES[new URLSearchParams(location.search).get('tab')] ?? NAMES.playground;

const PROMPTS = { [NAMES.playground]: '#prompt textarea', [NAMES.compare]: '#compare-prompt textarea' };
let carried = '';   // the prompt that was copied last

// Copies the prompt into the tab that opens, unless the visitor has written another one there.
const carry = (name) => {
  const to = document.querySelector(PROMPTS[name]), from = document.querySelector(Object.values(PROMPTS).find((box) => box !== PROMPTS[name]));
  if (!from?.value || !to || to.value === from.value || (to.value && to.value !== carried)) return;
  to.value = carried = from.value;
  to.dispatchEvent(new Event('input', { bubbles: true }));
};

const remember = (name) => {
  const key = Object.keys(NAMES).find((each) => NAMES[each] === name), query = new URLSearchParams(location.search);
  if (!key || name === addressed()) return;
  if (key === 'playground') query.delete('tab');
  else query.set('tab', key);
  history.pushState(null, '', `${location.pathname}${query.size ? `?${query}` : ''}${location.hash}`);
};

export const openTab = (name) => tabOf(name)?.click();

// Opens Compare and plays or films ("play", "film") the recorded texts, or those of the prompt. Compare takes the request from here,
// because gradio may draw the tab only after it was opened.
let race = null;
export const openRace = (action, recorded) => {
  race = [action, recorded];
  openTab(NAMES.compare);
  announce('citer-race');
};
export const takeRace = () => {
  const taken = race;
  race = null;
  return taken;
};

document.addEventListener('click', ({ target }) => {
  const tab = target.closest?.('#tabs [role="tab"]'), name = tab?.textContent.trim();
  if (!name) return;
  remember(name);
  if (name in PROMPTS) setTimeout(carry, 100, name);   // gradio draws a tab when it is opened first
});
addEventListener('popstate', () => openTab(addressed()));

const begin = (left) => {
  if (addressed() === NAMES.playground) return;
  if (tabOf(addressed())) openTab(addressed());
  else if (left) setTimeout(() => begin(left - 1), 50);
};
begin(100);
