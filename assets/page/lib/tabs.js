// Tabs have addresses (?tab=compare), so that going back goes back, and the prompt goes along between them.
const NAMES = { playground: 'Playground', compare: 'Compare', tune: 'Tune on my prompts', how: 'How it works' };
const tabs = () => [...document.querySelectorAll('#tabs [role="tab"]')];
const find = (name) => tabs().find((tab) => tab.textContent.trim() === name);
const keyOf = (name) => Object.keys(NAMES).find((key) => NAMES[key] === name);
const wanted = () => NAMES[new URLSearchParams(location.search).get('tab')] ?? NAMES.playground;

const PROMPTS = { [NAMES.playground]: '#prompt textarea', [NAMES.compare]: '#compare-prompt textarea' };
let carried = '';   // the prompt that both had last

// The prompt comes along between Playground and Compare, unless another stands there.
const carry = (name) => {
  const to = document.querySelector(PROMPTS[name]), from = document.querySelector(Object.values(PROMPTS).find((box) => box !== PROMPTS[name]));
  if (!from?.value || !to || to.value === from.value || (to.value && to.value !== carried)) return;
  to.value = carried = from.value;
  to.dispatchEvent(new Event('input', { bubbles: true }));
};

const remember = (name) => {
  const key = keyOf(name), query = new URLSearchParams(location.search);
  if (!key || name === wanted()) return;
  if (key === 'playground') query.delete('tab');
  else query.set('tab', key);
  history.pushState(null, '', `${location.pathname}${query.size ? `?${query}` : ''}${location.hash}`);
};

export const openTab = (name) => find(name)?.click();

// Opens Compare for a race, to "play" or to "film" it: of the recorded texts or of the prompt. `wish` is kept for a tab that has
// not been drawn yet.
export const wish = { race: null };
export const openRace = (action, recorded) => {
  wish.race = [action, recorded];
  openTab(NAMES.compare);
  document.dispatchEvent(new CustomEvent('citer-race'));
};

document.addEventListener('click', ({ target }) => {
  const tab = target.closest?.('#tabs [role="tab"]'), name = tab?.textContent.trim();
  if (!name) return;
  remember(name);
  if (name in PROMPTS) setTimeout(carry, 100, name);   // gradio draws a tab when it is opened first
});
addEventListener('popstate', () => openTab(wanted()));

const begin = (left) => {
  if (wanted() === NAMES.playground) return;
  if (find(wanted())) openTab(wanted());
  else if (left) setTimeout(() => begin(left - 1), 50);
};
begin(100);
