//! The public API, item by item, is what tests/public_api.txt lists: nothing becomes public, or goes, unseen. After a
//! change that is meant, `UNDIFFUSE_WRITE_API=1 cargo test --test house public_api` writes the list anew.
//!
//! It is read from the sources, whatever the features, and holds the paths under which users reach modules, types,
//! functions, fields, variants and methods; what is hidden from the documentation is not listed. Signatures are not
//! compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::{Attribute, Fields, ImplItem, Item, TraitItem, UseTree, Visibility};

/// A module: what it declares by name, what it names again, and where its `impl` blocks stand.
#[derive(Default)]
struct Module {
    children: BTreeMap<String, (bool, Module)>,
    /// Members below the name of each public item: fields, variants, methods of traits. The kind comes first.
    items: BTreeMap<String, (String, Vec<String>)>,
    /// Name here, path as written, whether public.
    uses: Vec<(String, Vec<String>, bool)>,
    /// The type's path as written, its public methods.
    impls: Vec<(Vec<String>, Vec<String>)>,
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn has(attributes: &[Attribute], name: &str, tokens: &str) -> bool {
    attributes.iter().any(|a| {
        let Ok(list) = a.meta.require_list() else { return false };
        let text: String = list.tokens.to_string().split_whitespace().collect();
        list.path.is_ident(name) && text == tokens
    })
}

/// Whether it is for tests alone.
fn is_test(attributes: &[Attribute]) -> bool {
    has(attributes, "cfg", "test")
}

fn is_hidden(attributes: &[Attribute]) -> bool {
    has(attributes, "doc", "hidden")
}

/// Whether it is for tests alone or hidden from the documentation.
fn is_unlisted(attributes: &[Attribute]) -> bool {
    is_test(attributes) || is_hidden(attributes)
}

fn words(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|s| s.ident.to_string()).collect()
}

fn fields(of: &Fields) -> Vec<String> {
    let public = of.iter().enumerate().filter(|(_, f)| is_public(&f.vis) && !is_unlisted(&f.attrs));
    public.map(|(i, f)| f.ident.as_ref().map_or(i.to_string(), ToString::to_string)).collect()
}

fn flatten(tree: &UseTree, mut path: Vec<String>, out: &mut Vec<(String, Vec<String>)>) {
    match tree {
        UseTree::Path(p) => {
            path.push(p.ident.to_string());
            flatten(&p.tree, path, out);
        }
        UseTree::Name(n) => {
            let name = n.ident.to_string();
            if name != "self" {
                path.push(name);
            }
            out.push((path.last().cloned().unwrap_or_default(), path));
        }
        UseTree::Rename(r) => {
            path.push(r.ident.to_string());
            out.push((r.rename.to_string(), path));
        }
        UseTree::Glob(_) => out.push(("*".into(), path)),
        UseTree::Group(g) => g.items.iter().for_each(|t| flatten(t, path.clone(), out)),
    }
}

impl Module {
    fn read(file: &Path, folder: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap();
        let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let mut module = Self::default();
        module.add(parsed.items, folder);
        module
    }

    fn add(&mut self, items: Vec<Item>, folder: &Path) {
        for item in items {
            self.add_one(item, folder);
        }
    }

    fn put(&mut self, visibility: &Visibility, kind: &str, name: &impl ToString, members: Vec<String>) {
        if is_public(visibility) {
            self.items.insert(name.to_string(), (kind.into(), members));
        }
    }

    fn add_one(&mut self, item: Item, folder: &Path) {
        match item {
            Item::Mod(m) if !is_test(&m.attrs) => {
                let name = m.ident.to_string();
                let inner = folder.join(&name);
                let child = match m.content {
                    Some((_, items)) => {
                        let mut child = Self::default();
                        child.add(items, &inner);
                        child
                    }
                    None => {
                        let file = [folder.join(format!("{name}.rs")), inner.join("mod.rs")];
                        Self::read(file.iter().find(|f| f.is_file()).unwrap(), &inner)
                    }
                };
                // What a hidden module declares is still what another names again.
                self.children.insert(name, (is_public(&m.vis) && !is_hidden(&m.attrs), child));
            }
            Item::Use(u) if !is_test(&u.attrs) => {
                let mut found = Vec::new();
                flatten(&u.tree, Vec::new(), &mut found);
                let public = is_public(&u.vis) && !is_hidden(&u.attrs);
                self.uses.extend(found.into_iter().map(|(name, path)| (name, path, public)));
            }
            Item::Struct(s) if !is_unlisted(&s.attrs) => self.put(&s.vis, "struct", &s.ident, fields(&s.fields)),
            Item::Union(u) if !is_unlisted(&u.attrs) => self.put(&u.vis, "union", &u.ident, Vec::new()),
            Item::Enum(e) if !is_unlisted(&e.attrs) => {
                let variants = e.variants.iter().flat_map(|v| {
                    let inner = v.fields.iter().filter_map(|f| f.ident.as_ref().map(|i| format!("{}.{i}", v.ident)));
                    std::iter::once(v.ident.to_string()).chain(inner)
                });
                self.put(&e.vis, "enum", &e.ident, variants.collect());
            }
            Item::Trait(t) if !is_unlisted(&t.attrs) => {
                let of = |i: &TraitItem| match i {
                    TraitItem::Fn(f) if !is_unlisted(&f.attrs) => Some(format!("{}()", f.sig.ident)),
                    TraitItem::Const(c) => Some(c.ident.to_string()),
                    TraitItem::Type(t) => Some(t.ident.to_string()),
                    _ => None,
                };
                self.put(&t.vis, "trait", &t.ident, t.items.iter().filter_map(of).collect());
            }
            Item::Fn(f) if !is_unlisted(&f.attrs) => self.put(&f.vis, "fn", &f.sig.ident, Vec::new()),
            Item::Const(c) if !is_unlisted(&c.attrs) => self.put(&c.vis, "const", &c.ident, Vec::new()),
            Item::Static(s) if !is_unlisted(&s.attrs) => self.put(&s.vis, "static", &s.ident, Vec::new()),
            Item::Type(t) if !is_unlisted(&t.attrs) => self.put(&t.vis, "type", &t.ident, Vec::new()),
            Item::Impl(i) if i.trait_.is_none() && !is_unlisted(&i.attrs) => {
                let syn::Type::Path(of) = &*i.self_ty else { return };
                let member = |m: &ImplItem| match m {
                    ImplItem::Fn(f) if is_public(&f.vis) && !is_unlisted(&f.attrs) => {
                        Some(format!("{}()", f.sig.ident))
                    }
                    ImplItem::Const(c) if is_public(&c.vis) && !is_unlisted(&c.attrs) => Some(c.ident.to_string()),
                    _ => None,
                };
                self.impls.push((words(&of.path), i.items.iter().filter_map(member).collect()));
            }
            _ => {}
        }
    }

    fn at(&self, path: &[String]) -> Option<&Self> {
        path.iter().try_fold(self, |m, name| m.children.get(name).map(|(_, m)| m))
    }

    /// Calls `f` with every module below and its path.
    fn each<'a>(&'a self, path: &[String], f: &mut dyn FnMut(&[String], &'a Self)) {
        f(path, self);
        for (name, (_, child)) in &self.children {
            child.each(&[path, std::slice::from_ref(name)].concat(), f);
        }
    }
}

/// The item that a path as written in the module `from` names: the module that declares it, and its name there. `None`
/// for other crates'.
fn resolve(root: &Module, from: &[String], path: &[String], depth: usize) -> Option<(Vec<String>, String)> {
    let (name, mut modules) = path.split_last()?;
    let mut at = from.to_vec();
    if depth > 8 {
        return None;
    }
    if let Some(first) = modules.first() {
        match first.as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => _ = at.pop()?,
            first if root.at(from)?.children.contains_key(first) => at.push(first.into()),
            first => {
                // A module that was named by `use`.
                let (_, of, _) = root.at(from)?.uses.iter().find(|(n, ..)| n == first)?;
                let (module, name) = resolve(root, from, of, depth + 1)?;
                at = [module, vec![name]].concat();
            }
        }
        modules = &modules[1..];
        for m in modules {
            if m == "super" { _ = at.pop()? } else { at.push(m.clone()) }
        }
    }
    let module = root.at(&at)?;
    if module.items.contains_key(name) || module.children.contains_key(name) {
        return Some((at, name.clone()));
    }
    let named = module.uses.iter().find(|(n, ..)| n == name).map(|(_, of, _)| of.clone());
    if let Some(of) = named {
        return resolve(root, &at, &of, depth + 1);
    }
    let globs = module.uses.iter().filter(|(n, ..)| n == "*");
    globs
        .into_iter()
        .find_map(|(_, of, _)| resolve(root, &at, &[of.as_slice(), std::slice::from_ref(name)].concat(), depth + 1))
}

struct Listing<'a> {
    root: &'a Module,
    /// Methods by the module and the name of their type.
    methods: BTreeMap<(Vec<String>, String), BTreeSet<String>>,
    lines: BTreeSet<String>,
}

impl<'a> Listing<'a> {
    fn of(root: &'a Module) -> Self {
        let mut methods: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        root.each(&[], &mut |path, module| {
            for (of, names) in &module.impls {
                if let Some(key) = resolve(root, path, of, 0) {
                    methods.entry(key).or_default().extend(names.iter().cloned());
                }
            }
        });
        let mut listing = Self { root, methods, lines: BTreeSet::new() };
        listing.module(root, &[], "");
        listing
    }

    /// Lists what is public in a module under the path `shown`.
    fn module(&mut self, module: &'a Module, path: &[String], shown: &str) {
        for name in module.items.keys() {
            self.item(path, name, &format!("{shown}{name}"));
        }
        for (name, (public, child)) in &module.children {
            if *public {
                self.lines.insert(format!("mod {shown}{name}"));
                self.module(child, &[path, std::slice::from_ref(name)].concat(), &format!("{shown}{name}::"));
            }
        }
        for (name, of, _) in module.uses.iter().filter(|(.., public)| *public) {
            if name == "*" {
                let target = resolve(self.root, path, of, 0).map(|(m, n)| [m, vec![n]].concat());
                let Some(inner) = target.as_deref().and_then(|t| self.root.at(t)) else {
                    self.lines.insert(format!("use {shown}* = {}", of.join("::")));
                    continue;
                };
                for name in inner.items.keys() {
                    self.item(target.as_deref().unwrap_or_default(), name, &format!("{shown}{name}"));
                }
                continue;
            }
            match resolve(self.root, path, of, 0) {
                Some((at, n)) if self.root.at(&at).is_some_and(|m| m.items.contains_key(&n)) => {
                    self.item(&at, &n, &format!("{shown}{name}"));
                }
                _ => _ = self.lines.insert(format!("use {shown}{name} = {}", of.join("::"))),
            }
        }
    }

    fn item(&mut self, module: &[String], name: &str, shown: &str) {
        let Some((kind, members)) = self.root.at(module).and_then(|m| m.items.get(name)) else { return };
        self.lines.insert(format!("{kind} {shown}"));
        let methods = self.methods.get(&(module.to_vec(), name.to_string())).into_iter().flatten();
        self.lines.extend(members.iter().chain(methods).map(|m| format!("{kind} {shown} {m}")));
    }
}

#[test]
fn the_public_api_is_the_one_that_is_listed() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = Module::read(&folder.join("src/lib.rs"), &folder.join("src"));
    let now = Listing::of(&root).lines;
    let file = folder.join("tests/public_api.txt");
    if std::env::var_os("UNDIFFUSE_WRITE_API").is_some() {
        fs::write(&file, now.iter().map(|l| format!("{l}\n")).collect::<String>()).unwrap();
    }
    let text = fs::read_to_string(&file).unwrap();
    let listed: BTreeSet<String> = text.lines().map(str::to_string).collect();
    let news: Vec<_> = now.difference(&listed).map(|l| format!("+ {l}")).collect();
    let gone: Vec<_> = listed.difference(&now).map(|l| format!("- {l}")).collect();
    assert!(
        news.is_empty() && gone.is_empty(),
        "the public API is not what tests/public_api.txt lists; if that is meant, write it anew with UNDIFFUSE_WRITE_API=1:\n{}",
        [news, gone].concat().join("\n")
    );
}

/// The listing of a crate of one file.
fn listed(source: &str) -> Vec<String> {
    let mut root = Module::default();
    root.add(syn::parse_file(source).unwrap().items, Path::new(""));
    Listing::of(&root).lines.into_iter().collect()
}

#[test]
fn what_users_reach_is_listed_under_the_path_they_reach_it_by() {
    let source = "
        mod inner { pub struct Thing { pub x: f32, y: f32 } impl Thing { pub fn new() {} fn own() {} }
                    pub(crate) fn not_it() {} }
        pub mod outer { pub use super::inner::Thing as Renamed; pub use inside::*; mod inside { pub const A: u8 = 1; }
                        pub enum Kind { One, Two { of: u8 } }
                        pub trait Act { fn act(&self); }
                        #[doc(hidden)] pub fn hidden() {} #[cfg(test)] pub fn tested() {} }
        impl outer::Kind { pub fn count() {} }
        pub use outer::Kind; pub use std::vec::Vec;
        #[doc(hidden)] pub mod apart { pub struct Kept; pub struct Unseen; }
        pub use apart::Kept; #[doc(hidden)] pub use apart::Unseen;
    ";
    assert_eq!(
        listed(source),
        [
            "const outer::A",
            "enum Kind",
            "enum Kind One",
            "enum Kind Two",
            "enum Kind Two.of",
            "enum Kind count()",
            "enum outer::Kind",
            "enum outer::Kind One",
            "enum outer::Kind Two",
            "enum outer::Kind Two.of",
            "enum outer::Kind count()",
            "mod outer",
            "struct Kept",
            "struct outer::Renamed",
            "struct outer::Renamed new()",
            "struct outer::Renamed x",
            "trait outer::Act",
            "trait outer::Act act()",
            "use Vec = std::vec::Vec",
        ]
    );
}
